//! Reasoning and answer are told apart, with R1's own vocabulary and chat template.
//!
//! The model is a tiny one with random weights: what it says means nothing, but it is templated,
//! tokenized and split as the real one is.

use cloister_tests::parts::scripted_r1;
use cloister_tests::serve::{Serve, question};
use serde_json::Value;

#[test]
fn streamed_and_whole_agree_on_what_is_reasoning_and_what_is_answer() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&scripted_r1(folder.path(), &[]), &["--ctx", "1024"]);
    let request = question("How many legs has a spider?", 24);

    let message = serve.chat(&request).json()["choices"][0]["message"].clone();
    // The template has opened the thought, and random weights do not close it.
    assert_ne!(
        message["reasoning_content"].as_str().unwrap_or_default(),
        "",
        "{message}"
    );
    assert_eq!(message["content"], "", "{message}");
    let events = serve.chat_stream(&request);
    for name in ["reasoning_content", "content"] {
        let pieces: String = events
            .iter()
            .filter_map(|event: &Value| event["choices"][0]["delta"][name].as_str())
            .collect();
        assert_eq!(pieces, message[name].as_str().unwrap_or_default());
        assert!(!pieces.contains("<think>"), "{message}");
    }
}

#[test]
fn where_the_thought_is_closed_the_answer_begins() {
    let folder = tempfile::tempdir().unwrap();
    // The template ends with a newline after the tag that it opens.
    let script = ["Ċ", "Hmm", "</think>", "Yes", "<｜end▁of▁sentence｜>"];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "1024"]);
    let request = question("Has a spider legs?", 24);

    let answer = serve.chat(&request).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["reasoning_content"], "Hmm", "{answer}");
    assert_eq!(choice["message"]["content"], "Yes", "{answer}");
    assert_eq!(choice["finish_reason"], "stop", "{answer}");
    let events = serve.chat_stream(&request);
    for (name, whole) in [("reasoning_content", "Hmm"), ("content", "Yes")] {
        let pieces: String = events
            .iter()
            .filter_map(|event: &Value| event["choices"][0]["delta"][name].as_str())
            .collect();
        assert_eq!(pieces, whole);
    }
}
