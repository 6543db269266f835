//! A conversation that is too long is refused, or loses its middle where its client allows that, which is then
//! told how much.

use cloister_tests::parts::smollm2;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

#[test]
fn what_is_too_long_loses_its_middle_only_where_that_is_allowed_and_says_so() {
    let serve = Serve::start(&smollm2(), &["--ctx", "256"]);
    let mut messages = vec![json!({"role": "system", "content": "You are brief."})];
    for i in 0..30 {
        messages.push(json!({"role": "user", "content": format!("What about number {i}?")}));
        messages.push(json!({"role": "assistant", "content": "It is a fine number."}));
    }
    messages.push(json!({"role": "user", "content": "And you?"}));
    let mut request = json!({"messages": messages, "max_tokens": 8, "temperature": 0});
    let refused = serve.chat(&request);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");
    request["truncation"] = json!("middle");
    let answer = serve.chat(&request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let cut = answer.json()["truncated"]["messages"].as_u64().unwrap();
    assert!(cut > 20 && cut.is_multiple_of(2) && cut < 60, "{cut}");
    assert_eq!(answer.json()["truncated"]["characters"], 0);
    // No more than need be: with the two messages more that were cut last it would not fit.
    let used = answer.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(used + 8 <= 256 && used + 8 + 40 > 256, "{used}");

    // The same, streamed and over the other API.
    let chunks = serve.chat_stream(&request);
    assert_eq!(chunks[0]["truncated"]["messages"], cut);
    let response = json!({"input": messages, "max_output_tokens": 8, "truncation": "middle"});
    let response = serve.post("/v1/responses", &response.to_string());
    assert_eq!(
        response.json()["truncated"]["messages"],
        cut,
        "{}",
        response.body
    );

    // One long message keeps its beginning and its end.
    let long = format!("Begin. {} End.", "many words ".repeat(400));
    let ask = |max_tokens: u64, text: &str| -> Value {
        let request = json!({
            "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "truncation": "middle",
        });
        serve.chat(&request).json()
    };
    let answer = ask(8, &long);
    let characters = answer["truncated"]["characters"].as_u64().unwrap();
    assert!(characters > 1000 && characters < 4400, "{answer}");
    assert_eq!(answer["truncated"]["messages"], 0);
    // What fits is left alone, and what no cut can help is refused.
    assert_eq!(ask(8, "Hi")["truncated"], Value::Null);
    assert_eq!(ask(300, "Hi")["error"]["code"], "context_length_exceeded");
}
