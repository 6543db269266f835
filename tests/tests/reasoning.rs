//! Reasoning and answer are told apart, with R1's own vocabulary and chat template.
//!
//! The model is a tiny one with random weights: what it says means nothing, but it is templated,
//! tokenized and split as the real one is. R1's template opens the reasoning itself.

use std::path::PathBuf;
use std::process::Command;

use cloister_tests::parts::{cached, program};
use cloister_tests::serve::{Serve, question};
use serde_json::Value;

fn tiny_r1(folder: &tempfile::TempDir) -> PathBuf {
    let out = folder.path().join("tiny-r1.gguf");
    let status = Command::new(program("examples/tiny_r1"))
        .arg(cached("r1-distill-qwen-7b-header.gguf"))
        .arg(&out)
        .status()
        .expect("the example is built");
    assert!(status.success());
    out
}

#[test]
fn what_follows_the_opened_tag_is_reasoning_and_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&tiny_r1(&folder), &["--ctx", "1024"]);
    let request = question("How many legs has a spider?", 24);

    let message = serve.chat(&request).json()["choices"][0]["message"].clone();
    let reasoning = message["reasoning_content"]
        .as_str()
        .unwrap_or_else(|| panic!("{message} has no reasoning"));
    assert!(!reasoning.is_empty(), "{message}");
    assert!(!reasoning.contains("<think>"), "{message}");
    assert!(
        message["content"].as_str().is_none_or(str::is_empty),
        "{message}"
    );

    let events = serve.chat_stream(&request);
    let piece = |name: &str| -> String {
        events
            .iter()
            .filter_map(|event: &Value| event["choices"][0]["delta"][name].as_str())
            .collect()
    };
    assert_eq!(piece("reasoning_content"), reasoning);
    assert_eq!(piece("content"), "");
}
