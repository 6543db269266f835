//! From text to tokens.
//!
//! Most vocabularies have llama.cpp look for words by `std::regex`, which recurses for each character of what it looks at: a
//! long word, or line, would take more stack than any caller has. Such a text is tokenized on a stack of its own, and one
//! of very many characters piece by piece.

use std::ffi::c_char;

use llama_cpp_sys_2 as sys;

use super::{Model, Token};
use crate::deep::on_stack_of;

/// Longest text that is tokenized on the caller's stack, in bytes.
const SHALLOW: usize = 1 << 10;

/// Longest text that is tokenized at once, in bytes. Some expressions take the square of it in time.
const AT_ONCE: usize = 1 << 14;

/// Stack for a text: some, and for each byte twice what the hungriest expression was seen to take.
const fn stack(bytes: usize) -> usize {
    (2 << 20) + (bytes << 10)
}

impl Model {
    /// Tokenizes `text`. `add_special` puts the model's own begin-of-sequence in front; special
    /// tokens written out in `text` become those tokens, as a rendered template needs.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Vec<Token> {
        self.tokenize_with(text, add_special, true)
    }

    /// As [`Model::tokenize`], but special tokens written out in `text` are text like any other.
    pub fn tokenize_plain(&self, text: &str, add_special: bool) -> Vec<Token> {
        self.tokenize_with(text, add_special, false)
    }

    fn tokenize_with(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<Token> {
        // The other kinds look for no words, and put a space before each text.
        if text.len() <= SHALLOW || !self.is_byte_level() {
            return self.tokenize_here(text, add_special, parse_special);
        }
        let tokenized = on_stack_of(stack(text.len().min(AT_ONCE)), || {
            let mut tokens = Vec::new();
            for (i, piece) in pieces(text).enumerate() {
                tokens.extend(self.tokenize_here(piece, add_special && i == 0, parse_special));
            }
            tokens
        });
        tokenized.unwrap_or_else(|error| {
            tracing::error!(
                "no room to tokenize a text of {} bytes: {error}",
                text.len()
            );
            Vec::new()
        })
    }

    fn tokenize_here(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<Token> {
        let Ok(len) = i32::try_from(text.len()) else {
            return Vec::new();
        };
        let mut tokens = vec![0; text.len() / 3 + 16];
        loop {
            // SAFETY: text and buffer are passed with their own lengths.
            let n = unsafe {
                sys::llama_tokenize(
                    self.vocab(),
                    text.as_ptr().cast::<c_char>(),
                    len,
                    tokens.as_mut_ptr(),
                    tokens.len() as i32,
                    add_special,
                    parse_special,
                )
            };
            if n >= 0 {
                tokens.truncate(n as usize);
                return tokens;
            }
            // llama.cpp answers the negated length when the buffer is too short.
            tokens.resize(n.unsigned_abs() as usize, 0);
        }
    }
}

/// The text in pieces of [`AT_ONCE`] bytes at most.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = match rest.len() {
            0 => return None,
            1..=AT_ONCE => rest.len(),
            _ => {
                let most = rest.floor_char_boundary(AT_ONCE);
                seam(&rest.as_bytes()[..most]).unwrap_or(most)
            }
        };
        let (piece, others) = rest.split_at(end);
        rest = others;
        Some(piece)
    })
}

/// A place in the second half of `text` across which no word reaches: the last where a line begins, or else before a space
/// between two words.
fn seam(text: &[u8]) -> Option<usize> {
    let places = || (text.len() / 2 + 1..text.len() - 1).rev();
    let begins_line = |at: &usize| text[at - 1] == b'\n' && !text[*at].is_ascii_whitespace();
    let is_between = |at: &usize| {
        text[at - 1].is_ascii_alphabetic()
            && text[*at] == b' '
            && text[at + 1].is_ascii_alphabetic()
    };
    places()
        .find(begins_line)
        .or_else(|| places().find(is_between))
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::vocabulary;
    use super::*;

    /// Expressions that differ in what they take for one word: DeepSeek's own, and those of others.
    const KINDS: [&str; 11] = [
        "deepseek-llm",
        "deepseek-coder",
        "deepseek-v3",
        "falcon",
        "gpt-4o",
        "tekken",
        "poro-chat",
        "chameleon",
        "hunyuan-dense",
        "seed-coder",
        "gpt-2",
    ];

    /// Texts of one kind of character each, and of two that expressions take for one word.
    fn long_runs() -> impl Iterator<Item = String> {
        let units = ["a", "A", "7", ",", " ", "\n ", "漢", "aB", "a a", "🎈"];
        units
            .into_iter()
            .map(|unit| unit.repeat(AT_ONCE / unit.len() + 9))
    }

    #[test]
    fn the_longest_words_are_tokenized_whatever_looks_for_them() {
        for kind in KINDS {
            let model = vocabulary(kind, &[]);
            for text in long_runs() {
                let tokens = model.tokenize(&text, false);
                let pieces = tokens.iter().flat_map(|token| model.piece(*token, false));
                let unit: String = text.chars().take(2).collect();
                assert!(
                    pieces.eq(text.bytes()),
                    "{kind}: {unit:?} becomes another text"
                );
            }
        }
    }

    #[test]
    fn what_is_tokenized_piece_by_piece_has_the_same_tokens() {
        let model = vocabulary("deepseek-v3", &[]);
        let words = |ends: fn(usize) -> &'static str| -> String {
            let word = |i| format!("{}{}", "a".repeat(i % 7 + 1), ends(i));
            (0..60_000).map(word).collect()
        };
        for text in [
            words(|i| if i % 11 == 0 { ",\n" } else { " " }),
            words(|_| " "),
            "漢字。\n".repeat(10_000),
            "漢字aa\n\n  a\n".repeat(10_000),
        ] {
            assert!(text.len() > 3 * AT_ONCE);
            let whole = on_stack_of(stack(text.len()), || {
                model.tokenize_here(&text, false, true)
            });
            assert!(whole.unwrap() == model.tokenize(&text, false));
        }
    }

    #[test]
    fn pieces_are_short_and_are_the_text() {
        for text in long_runs().chain([String::new(), "é".to_owned()]) {
            let all: Vec<&str> = pieces(&text).collect();
            assert!(
                all.iter()
                    .all(|piece| !piece.is_empty() && piece.len() <= AT_ONCE)
            );
            assert!(all.concat() == text);
        }
    }
}
