//! `cloister-bridge`.
fn main() {}
