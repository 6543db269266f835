//! Nothing stays: after an answer, neither it nor its prompt is in any file or log of `cloister serve`.

use cloister_tests::serve::{Serve, question};
use cloister_tests::traces::holds;
use serde_json::{Value, json};

/// A word that is nowhere but in the prompts of this test.
const WORD: &str = "quuxzanzibar";

#[test]
fn after_answers_refusals_and_cancels_no_file_and_no_log_holds_a_word_of_them() {
    let serve = Serve::start_at_home();
    let http = &serve.http;
    let chat = format!("{}/v1/chat/completions", serve.url);
    let text = format!("Write the word {WORD} and then tell a long story of it.");
    let asked = |max_tokens| question(&text, max_tokens);
    let answer = http.post(&chat, &asked(24).to_string()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(answer.len() > 20, "{answer}");
    let mut request = asked(400);
    request["stream"] = json!(true);
    let mut left = http.stream(&chat, &request);
    left.next().expect("the answer has begun");
    drop(left);
    let refused = |body: &str, status: u16| {
        let answer = http.post(&chat, body).unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
    };
    refused(&asked(9000).to_string(), 400);
    refused(&format!("{{\"messages\": \"{WORD}\"}}"), 400);
    refused(&format!("{WORD} is no JSON"), 400);
    let mut request: Value = asked(4);
    request["model"] = json!(WORD);
    refused(&request.to_string(), 404);
    refused(
        &question(&format!("{WORD} ").repeat(600), 4).to_string(),
        400,
    );

    for file in serve.left() {
        assert!(!holds(&file, WORD), "{} holds the prompt", file.display());
        let part = &answer[..answer.floor_char_boundary(20)];
        assert!(!holds(&file, part), "{} holds {part:?}", file.display());
    }
}
