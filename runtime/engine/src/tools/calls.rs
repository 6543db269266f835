//! Reads calls out of the text of an answer as it comes.

use serde_json::Value;

use super::{CLOSE, OPEN, ToolCall};
use crate::reasoning::longest_suffix_that_begins;

/// What may stand around a call's JSON without a meaning of its own.
const FENCES: [&str; 3] = [CLOSE, "```json", "```"];

/// Parts an answer into words and calls. Feed it text with [`CallSplitter::push`], then call
/// [`CallSplitter::finish`].
///
/// Small models leave the tag out: an answer that begins with the JSON of a call, its name being that of a
/// tool, is that call.
pub struct CallSplitter {
    /// How an answer without a tag begins that is a call, without white space.
    bare: Vec<String>,
    /// Text that cannot be told yet: a tag's beginning with the white space before it, or an unfinished call.
    held: String,
    stage: Stage,
    called: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Words,
    Call,
    AfterCall,
}

impl CallSplitter {
    /// For an answer that may call tools of these names.
    pub fn new(names: &[String]) -> Self {
        let bare = |fence: &'static str| {
            let begin = move |name: &String| format!("{fence}{{\"name\":\"{name}\"");
            names.iter().map(begin)
        };
        Self {
            bare: ["", "```json", "```"].into_iter().flat_map(bare).collect(),
            held: String::new(),
            stage: Stage::Start,
            called: 0,
        }
    }

    /// Takes the next text. Gives out what are words for certain, and the calls that are complete.
    pub fn push(&mut self, text: &str) -> (String, Vec<ToolCall>) {
        self.held.push_str(text);
        let (mut words, mut calls) = (String::new(), Vec::new());
        loop {
            match self.stage {
                Stage::Start => {
                    let said: String = self.held.split_whitespace().collect();
                    if self.bare.iter().any(|begin| said.starts_with(begin)) {
                        self.held = without_fences(&self.held).to_owned();
                        self.stage = Stage::Call;
                    } else if self.bare.iter().any(|begin| begin.starts_with(&said)) {
                        return (words, calls);
                    } else {
                        self.stage = Stage::Words;
                    }
                }
                Stage::Words => {
                    if let Some(at) = self.held.find(OPEN) {
                        words += self.held[..at].trim_end();
                        self.held = self.held.split_off(at + OPEN.len());
                        self.stage = Stage::Call;
                        continue;
                    }
                    let tag = longest_suffix_that_begins(&self.held, OPEN);
                    let certain = self.held[..self.held.len() - tag].trim_end().len();
                    words += &self.held[..certain];
                    self.held = self.held.split_off(certain);
                    return (words, calls);
                }
                Stage::Call => {
                    // A value ends with a brace; before there is none, there is no need to look.
                    let complete = text.contains('}').then(|| complete(&self.held)).flatten();
                    let Some((call, end)) = complete else {
                        return (words, calls);
                    };
                    calls.push(call);
                    self.called += 1;
                    self.held = self.held.split_off(end);
                    self.stage = Stage::AfterCall;
                }
                Stage::AfterCall => {
                    let rest = without_fences(&self.held);
                    let unsure = |fence: &str| fence.starts_with(rest);
                    if FENCES.into_iter().chain([OPEN]).any(unsure) {
                        return (words, calls);
                    }
                    self.held = rest.to_owned();
                    self.stage = Stage::Words;
                }
            }
        }
    }

    /// Whether there was a call.
    pub fn called(&self) -> bool {
        self.called > 0
    }

    /// What has come of the first call, if it has begun and is not complete.
    pub fn begun(&self) -> Option<&str> {
        (self.stage == Stage::Call && self.called == 0).then_some(&self.held)
    }

    /// Gives out what was held back. A call that is not complete is none.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        match self.stage {
            Stage::Call | Stage::AfterCall => String::new(),
            _ if self.called > 0 && held.trim().is_empty() => String::new(),
            Stage::Start | Stage::Words => held,
        }
    }
}

/// The call that `text` begins with, and where its JSON ends.
fn complete(text: &str) -> Option<(ToolCall, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut call = values.next()?.ok()?;
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = call.get_mut("arguments").map_or(Value::Null, Value::take);
    Some((ToolCall { name, arguments }, values.byte_offset()))
}

/// What follows white space and fences.
fn without_fences(text: &str) -> &str {
    let text = text.trim_start();
    match FENCES.iter().find_map(|fence| text.strip_prefix(fence)) {
        Some(rest) => without_fences(rest),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_calls_part_wherever_the_pieces_break() {
        let text = "I will.\n\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": \"</tool_call>\"}}\n</tool_call>\n<tool_call>{\"name\": \"b\", \"arguments\": {}}</tool_call>\n";
        for step in 1..=text.len() {
            let mut splitter = CallSplitter::new(&["a".to_owned(), "b".to_owned()]);
            let (mut words, mut calls) = (String::new(), Vec::new());
            for piece in text.as_bytes().chunks(step) {
                let (more, called) = splitter.push(std::str::from_utf8(piece).expect("ASCII"));
                words += &more;
                calls.extend(called);
            }
            words += &splitter.finish();
            assert_eq!(words, "I will.", "{step}");
            let call = |name: &str, arguments| ToolCall {
                name: name.to_owned(),
                arguments,
            };
            let expected = [
                call("a", json!({"x": "</tool_call>"})),
                call("b", json!({})),
            ];
            assert_eq!(calls, expected, "{step}");
        }
    }

    #[test]
    fn words_that_only_look_like_a_call_are_words() {
        let mut splitter = CallSplitter::new(&["a".to_owned(), "b".to_owned()]);
        let (mut words, calls) = splitter.push(" a < b <tool_c \n");
        words += &splitter.finish();
        assert_eq!((words.as_str(), calls.len()), (" a < b <tool_c \n", 0));
    }

    #[test]
    fn a_call_that_is_cut_off_is_none() {
        let mut splitter = CallSplitter::new(&["a".to_owned(), "b".to_owned()]);
        let (words, calls) = splitter.push("Yes. <tool_call>\n{\"name\": \"a\"");
        assert_eq!((words.as_str(), calls.len()), ("Yes.", 0));
        assert_eq!(splitter.begun(), Some("\n{\"name\": \"a\""));
        assert_eq!(splitter.finish(), "");
    }

    #[test]
    fn an_answer_that_is_a_call_but_for_the_tag_is_a_call() {
        for (text, words, called) in [
            ("{\"name\": \"b\", \"arguments\": {\"x\": {}}}", "", 1),
            (
                "```json\n{\n  \"name\": \"b\", \"arguments\": {}}\n```",
                "",
                1,
            ),
            (
                "{\"name\": \"nobody\", \"arguments\": {}}",
                "{\"name\": \"nobody\", \"arguments\": {}}",
                0,
            ),
            ("See: {\"name\": \"b\"}", "See: {\"name\": \"b\"}", 0),
            ("``", "``", 0),
        ] {
            for step in 1..=text.len() {
                let mut splitter = CallSplitter::new(&["b".to_owned()]);
                let (mut said, mut n) = (String::new(), 0);
                for piece in text.as_bytes().chunks(step) {
                    let (more, calls) = splitter.push(std::str::from_utf8(piece).expect("ASCII"));
                    said += &more;
                    n += calls.len();
                }
                said += &splitter.finish();
                assert_eq!((said.as_str(), n), (words, called), "{text} {step}");
            }
        }
    }
}
