//! See `gguf` in quantize/src/hostile.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::hostile::gguf(bytes));
