//! `cloister.toml`, as each program reads it. What is wrong is told in one line.

#![no_main]

use std::collections::BTreeMap;

use cloister_program::config_file::{table, tables};
use serde::de::IgnoredAny;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), bytes).expect("it can be written");
    for name in ["up", "serve", "bridge"] {
        let read = table::<BTreeMap<String, IgnoredAny>>(Some(file.path()), name);
        if let Err(error) = read {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
    let _ = tables::<BTreeMap<String, IgnoredAny>>(Some(file.path()), "recipe");
});
