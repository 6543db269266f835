//! What an answer must look like, as clients say it: a JSON schema, a regular expression, Lark or GBNF, whichever the first
//! byte says. It is refused, or holds an answer that is drawn by the bytes of its own text.

#![no_main]

use std::sync::{Arc, LazyLock};

use serve_readers::{Grammars, Model, Next, Shape};

static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| Grammars::new(Arc::new(Model)).expect("it is a vocabulary"));

/// Longest answer that is drawn, in tokens, which are bytes here.
const DRAWN: usize = 64;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(rest) else {
        return;
    };
    let shape = match kind % 4 {
        0 => match serde_json::from_str(text) {
            Ok(schema) => Shape::JsonSchema(schema),
            Err(_) => return,
        },
        1 => Shape::Regex(text.to_owned()),
        2 => Shape::Lark(text.to_owned()),
        _ => Shape::Gbnf(text.to_owned()),
    };
    match GRAMMARS.compile(&shape) {
        // It is told to the client in one line or a few.
        Err(reason) => {
            let reason = reason.to_string();
            assert!(
                !reason.is_empty() && reason.chars().count() <= 1000,
                "{reason}"
            );
        }
        Ok(mut grammar) => {
            for choice in rest.iter().cycle().take(DRAWN) {
                let Next::OneOf(words) = grammar.allowed() else {
                    break;
                };
                let bytes: Vec<i32> = (0..257)
                    .filter(|t| words[*t as usize / 32] >> (t % 32) & 1 == 1)
                    .collect();
                if bytes.is_empty() {
                    break;
                }
                let token = bytes[usize::from(*choice) % bytes.len()];
                if token == 256 {
                    assert!(grammar.allows(token, true), "it may end, and may not");
                    break;
                }
                assert!(
                    grammar.allows(token, false),
                    "a token may come, and may not"
                );
                grammar.take(token);
                let _ = grammar.take_forced();
            }
        }
    }
});
