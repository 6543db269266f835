//! The thought under the client's control: without it, in a budget of tokens, and never in the answer.
//!
//! The model is a tiny one with R1's vocabulary and chat template that says what it is made to say.

use cloister_tests::parts::{scripted_r1, smollm2};
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

/// What [`at_length`] thinks, from its beginning on.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";

/// After the newline that follows `<think>` it thinks the letters and then more, 130 tokens; after the empty
/// line that follows `</think>` it says "Yes".
fn at_length() -> Vec<String> {
    let capitals = LETTERS.to_uppercase();
    let alone = LETTERS.chars().chain(capitals.chars());
    let after_a_space = alone.clone().map(|letter| format!("Ġ{letter}"));
    let signs = "0123456789#$%&()*+,-./:;=?@[]^_{}~".chars();
    let thought = alone
        .map(String::from)
        .chain(after_a_space)
        .chain(signs.map(String::from));
    let answer = ["ĊĊ", "Yes", "<｜end▁of▁sentence｜>", "Ċ"].map(String::from);
    answer.into_iter().chain(thought).collect()
}

/// It thinks "Hmm", says "Yes" and ends.
const BRIEFLY: [&str; 6] = ["Ċ", "Hmm", "</think>", "ĊĊ", "Yes", "<｜end▁of▁sentence｜>"];

fn serve(script: &[impl AsRef<str>], options: &[&str]) -> (Serve, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let script: Vec<&str> = script.iter().map(AsRef::as_ref).collect();
    let options = [&["--ctx", "512"], options].concat();
    (
        Serve::start(&scripted_r1(folder.path(), &script), &options),
        folder,
    )
}

fn with(fields: Value) -> Value {
    let mut request = question("Has a spider legs?", 20);
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// Thought, answer and why it ended, whole; checked against the streamed ones.
fn parts(serve: &Serve, request: &Value) -> (String, String, String) {
    let answer = serve.chat(request);
    assert_eq!(answer.status, 200, "{request}: {}", answer.body);
    let choice = answer.json()["choices"][0].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let message = &choice["message"];
    let (thought, said) = (
        text(&message["reasoning_content"]),
        text(&message["content"]),
    );
    let events = serve.chat_stream(request);
    for (name, whole) in [("reasoning_content", &thought), ("content", &said)] {
        let pieces = events
            .iter()
            .map(|event| text(&event["choices"][0]["delta"][name]));
        assert_eq!(&pieces.collect::<String>(), whole, "{request}");
    }
    (thought, said, text(&choice["finish_reason"]))
}

fn parted(thought: &str, said: &str, reason: &str) -> (String, String, String) {
    (thought.to_owned(), said.to_owned(), reason.to_owned())
}

#[test]
fn without_a_thought_the_answer_begins_at_once() {
    let (serve, _folder) = serve(&BRIEFLY, &[]);
    assert_eq!(
        parts(&serve, &with(json!({}))),
        parted("Hmm", "Yes", "stop")
    );
    for none in [
        json!({"think": false}),
        json!({"reasoning_effort": "none"}),
        json!({"reasoning": {"effort": "none"}}),
        json!({"thinking_budget_tokens": 0}),
        json!({"chat_template_kwargs": {"enable_thinking": false}}),
    ] {
        assert_eq!(parts(&serve, &with(none)), parted("", "Yes", "stop"));
    }
    for some in [
        json!({"think": true}),
        json!({"think": "high"}),
        json!({"reasoning_effort": "high"}),
        json!({"thinking_budget_tokens": -1}),
    ] {
        assert_eq!(parts(&serve, &with(some)), parted("Hmm", "Yes", "stop"));
    }
}

#[test]
fn a_thought_ends_with_its_budget_and_the_answer_begins() {
    let (serve, _folder) = serve(&at_length(), &[]);
    let endless = parts(&serve, &with(json!({})));
    assert_eq!(endless, parted(&LETTERS[..20], "", "length"));
    let budget = with(json!({"thinking_budget_tokens": 10}));
    assert_eq!(
        parts(&serve, &budget),
        parted(&LETTERS[..10], "Yes", "stop")
    );
    // The newline and the tag that close it are the thought's too.
    let usage = &serve.chat(&budget).json()["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 12);
    // A level is a budget, the least of 128 tokens.
    let mut least = with(json!({"reasoning_effort": "minimal"}));
    least["max_tokens"] = json!(300);
    let (thought, said, reason) = parts(&serve, &least);
    assert!(
        thought.starts_with(LETTERS) && thought.ends_with("-./:;"),
        "{thought}"
    );
    assert_eq!((said.as_str(), reason.as_str()), ("Yes", "stop"));
}

#[test]
fn a_budget_of_the_configuration_holds_where_a_request_names_none() {
    let (serve, _folder) = serve(&at_length(), &["--reasoning-budget", "5"]);
    assert_eq!(
        parts(&serve, &with(json!({}))),
        parted(&LETTERS[..5], "Yes", "stop")
    );
    let own = with(json!({"thinking_budget_tokens": 7}));
    assert_eq!(parts(&serve, &own), parted(&LETTERS[..7], "Yes", "stop"));
    let endless = with(json!({"thinking_budget_tokens": -1}));
    assert_eq!(
        parts(&serve, &endless),
        parted(&LETTERS[..20], "", "length")
    );
}

#[test]
fn what_an_earlier_answer_thought_is_no_part_of_the_next_prompt() {
    let conversation = |assistant: Value| {
        json!({"max_tokens": 2, "messages": [
            {"role": "user", "content": "Has a spider legs?"},
            assistant,
            {"role": "user", "content": "How many?"},
        ]})
    };
    let said = json!({"role": "assistant", "content": "Yes"});
    let thought = [
        json!({"role": "assistant", "content": "<think>\nThey do.\n</think>\n\nYes"}),
        json!({"role": "assistant", "content": "Yes", "reasoning_content": "They do."}),
        json!({"role": "assistant", "content": "Yes", "reasoning": "They do."}),
    ];
    let (r1, _folder) = serve(&BRIEFLY, &[]);
    let count = |serve: &Serve, message: &Value| {
        serve.chat(&conversation(message.clone())).json()["usage"]["prompt_tokens"].clone()
    };
    for message in &thought {
        assert_eq!(count(&r1, message), count(&r1, &said), "{message}");
    }
    drop(r1);
    // Its template knows nothing of thoughts.
    let smollm2 = Serve::start(&smollm2(), &[]);
    for message in &thought {
        assert_eq!(
            count(&smollm2, message),
            count(&smollm2, &said),
            "{message}"
        );
    }
}

#[test]
fn what_cannot_be_thought_as_asked_is_refused() {
    let (r1, _folder) = serve(&BRIEFLY, &[]);
    let refused = |serve: &Serve, request: Value, param: &str| {
        let answer = serve.chat(&with(request.clone()));
        assert_eq!(answer.status, 400, "{request}: {}", answer.body);
        assert_eq!(answer.json()["error"]["param"], param, "{request}");
    };
    refused(&r1, json!({"think": "a lot"}), "think");
    refused(&r1, json!({"think": 3}), "think");
    refused(
        &r1,
        json!({"reasoning_effort": "enormous"}),
        "reasoning_effort",
    );
    refused(&r1, json!({"reasoning": {"effort": 1}}), "reasoning.effort");
    refused(&r1, json!({"reasoning": "low"}), "reasoning");
    refused(
        &r1,
        json!({"thinking_budget_tokens": -2}),
        "thinking_budget_tokens",
    );
    refused(
        &r1,
        json!({"think": false, "reasoning_effort": "high"}),
        "reasoning_effort",
    );
    refused(
        &r1,
        json!({"think": false, "thinking_budget_tokens": 9}),
        "thinking_budget_tokens",
    );
    refused(&r1, json!({"chat_template_kwargs": {"x": 1}}), "x");
    drop(r1);
    let smollm2 = Serve::start(&smollm2(), &[]);
    refused(&smollm2, json!({"think": true}), "think");
    refused(
        &smollm2,
        json!({"reasoning_effort": "low"}),
        "reasoning_effort",
    );
    for fine in [json!({"think": false}), json!({"reasoning_effort": "none"})] {
        assert_eq!(smollm2.chat(&with(fine)).status, 200);
    }
}

#[test]
fn a_thought_that_nobody_wants_is_ended_wherever_it_begins() {
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    let format =
        json!({"type": "grammar", "syntax": "regex", "definition": "<think>\n[a-z ]{40,60}"});
    let mut request = with(json!({"think": false, "max_tokens": 60, "response_format": format}));
    request["temperature"] = json!(0);
    let usage = serve.chat(&request).json()["usage"].clone();
    let thought = usage["completion_tokens_details"]["reasoning_tokens"].as_u64();
    assert!(thought.is_some_and(|tokens| tokens < 10), "{usage}");
}
