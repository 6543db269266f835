//! `cloister`.
fn main() {}
