//! The chat template of a model file: see `template` in runtime/engine/src/hostile.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serve_readers::hostile::template(bytes));
