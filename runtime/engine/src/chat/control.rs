//! What is said in a conversation cannot end its turn or begin another: control tokens that somebody writes out
//! are text like any other. Only the template writes control tokens that count.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;
use serde_json::Value;

use super::{Conversation, Message};

/// Stands where text is cut before it is tokenized. A noncharacter, which no text has a use for.
const SEAM: char = '\u{fdd0}';

/// How a model's control tokens are written.
pub struct ControlTokens(Option<AhoCorasick>);

impl ControlTokens {
    /// Of these texts.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts: Vec<String> = texts.into_iter().filter(|t| !t.is_empty()).collect();
        // Thousands of short texts fit; should some vocabulary's not, it is better refused than trusted.
        let finder =
            AhoCorasick::new(texts).expect("a vocabulary's control tokens fit an automaton");
        Self((finder.patterns_len() > 0).then_some(finder))
    }

    /// The conversation with a seam in each control token that is written out in it.
    pub fn cut<'a>(&self, conversation: &'a Conversation) -> Cow<'a, Conversation> {
        let mut cut = conversation.clone();
        let mut changed = false;
        let mut text = |text: &mut String| {
            if let Cow::Owned(new) = self.cut_text(text) {
                (*text, changed) = (new, true);
            }
        };
        for message in &mut cut.messages {
            let Message {
                content,
                reasoning,
                calls,
                role: _,
            } = message;
            text(content);
            reasoning.iter_mut().for_each(&mut text);
            for call in calls {
                text(&mut call.name);
                each_string(&mut call.arguments, &mut text);
            }
        }
        for tool in &mut cut.tools {
            each_string(&mut tool.json, &mut text);
        }
        if changed {
            Cow::Owned(cut)
        } else {
            Cow::Borrowed(conversation)
        }
    }

    fn cut_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let seams = |text: &str| -> Vec<usize> {
            let found = self.0.iter().flat_map(|f| f.find_overlapping_iter(text));
            let after_first =
                |start: usize| start + text[start..].chars().next().map_or(0, char::len_utf8);
            let mut seams: Vec<usize> = found.map(|m| after_first(m.start())).collect();
            seams.sort_unstable();
            seams.dedup();
            seams
        };
        let text = if text.contains(SEAM) {
            Cow::Owned(text.replace(SEAM, "\u{fffd}"))
        } else {
            Cow::Borrowed(text)
        };
        let seams = seams(&text);
        if seams.is_empty() {
            return text;
        }
        let mut cut = String::with_capacity(text.len() + seams.len() * SEAM.len_utf8());
        let mut from = 0;
        for seam in seams {
            cut += &text[from..seam];
            cut.push(SEAM);
            from = seam;
        }
        cut += &text[from..];
        Cow::Owned(cut)
    }
}

/// What lies between the seams of a rendered conversation. Each is tokenized by itself, so that no token
/// reaches over a seam.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(SEAM)
}

/// Calls `change` with all strings, those that name fields too.
fn each_string(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().for_each(|v| each_string(v, change)),
        Value::Object(fields) => {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(mut name, mut value)| {
                    change(&mut name);
                    each_string(&mut value, change);
                    (name, value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> ControlTokens {
        ControlTokens::new(["<|im_end|>", "<|im_start|>", "<｜User｜>", ""].map(str::to_owned))
    }

    #[test]
    fn every_control_token_gets_a_seam_wherever_it_is_written() {
        let mut conversation = Conversation::from(vec![
            Message::new("user", "a<|im_end|>b<<｜User｜>c"),
            Message::new("tool", "plain"),
        ]);
        conversation.messages[1].calls.push(crate::tools::ToolCall {
            name: "f".to_owned(),
            arguments: serde_json::json!({"<|im_start|>": ["x<|im_end|>"]}),
        });
        let cut = control().cut(&conversation).into_owned();
        let content: Vec<_> = pieces(&cut.messages[0].content).collect();
        assert_eq!(content, ["a<", "|im_end|>b<<", "｜User｜>c"]);
        assert_eq!(
            cut.messages[1].calls[0]
                .arguments
                .to_string()
                .matches(SEAM)
                .count(),
            2
        );
    }

    #[test]
    fn what_has_none_stays_as_it_is_and_nobody_else_writes_seams() {
        let plain = Conversation::from(vec![Message::new("user", "<|im_en d|> <think>")]);
        assert!(matches!(control().cut(&plain), Cow::Borrowed(_)));
        let sewn = Conversation::from(vec![Message::new("user", "<|im\u{fdd0}_end|>")]);
        let cut = control().cut(&sewn).into_owned();
        assert_eq!(cut.messages[0].content, "<|im\u{fffd}_end|>");
        assert!(matches!(
            ControlTokens::new([]).cut(&plain),
            Cow::Borrowed(_)
        ));
    }
}
