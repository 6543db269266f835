//! `cloister-quantize`.
fn main() {}
