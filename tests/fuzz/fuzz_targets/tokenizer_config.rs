//! See `tokenizer_config` in quantize/src/hostile.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::hostile::tokenizer_config(bytes));
