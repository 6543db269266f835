//! The body of an HTTP request, as `cloister serve` reads it: see `body` in runtime/src/serve/hostile.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serve_readers::hostile::body(bytes));
