//! `/v1/responses`, as the openai client from PyPI reads it, and with a thought.

use cloister_tests::parts::{SMOLLM2, scripted_r1, smollm2};
use cloister_tests::python;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

#[test]
fn the_openai_client_gets_plain_and_streamed_responses() {
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    let url = format!("{}/v1", serve.url);
    python::run("openai_responses.py", &[&url, SMOLLM2]);
}

#[test]
fn a_thought_is_an_item_of_its_own_and_no_part_of_the_next_prompt() {
    let folder = tempfile::tempdir().unwrap();
    // The template ends with a newline after the tag that it opens.
    let script = ["Ċ", "Hmm", "</think>", "Yes", "<｜end▁of▁sentence｜>"];
    let model = scripted_r1(folder.path(), &script);
    let serve = Serve::start(&model, &["--ctx", "512"]);
    let request = json!({"input": "Warm?", "temperature": 0, "max_output_tokens": 20});
    let answer = serve.post("/v1/responses", &request.to_string()).json();
    let output = answer["output"].as_array().expect("items");
    let texts: Vec<(&str, &str)> = output
        .iter()
        .map(|item| {
            let text = item["content"][0]["text"].as_str().unwrap_or("");
            (item["type"].as_str().unwrap_or(""), text.trim())
        })
        .collect();
    assert_eq!(
        texts,
        [("reasoning", "Hmm"), ("message", "Yes")],
        "{answer}"
    );
    let mut input = vec![json!({"role": "user", "content": "Warm?"})];
    let without: Vec<Value> = [&input[..], &output[1..]].concat();
    input.extend(output.iter().cloned());
    let tokens = |input: Vec<Value>| {
        let request = json!({"input": input, "max_output_tokens": 1});
        let answer = serve.post("/v1/responses", &request.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["usage"]["input_tokens"].clone()
    };
    assert_eq!(tokens(input), tokens(without));
}
