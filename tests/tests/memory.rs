//! What was said stays in nobody's memory once it is answered. Needs to be root, as the
//! box lets nobody else look.

use std::io::Write;
use std::net::TcpStream;

use cloister_tests::http::Http;
use cloister_tests::parts::smollm2;
use cloister_tests::process::{until, with_descendants};
use cloister_tests::serve::{Serve, question};
use cloister_tests::traces::times_in_memory;
use cloister_tests::up::Up;
use serde_json::json;

/// A word that is nowhere but in the prompts of these tests, and that no tokenizer has as one token.
const WORD: &str = "quuxhalcyonquux";

fn times_in(id: u32) -> usize {
    let all = with_descendants(id).into_iter();
    all.map(|id| times_in_memory(id, WORD)).sum()
}

#[test]
fn a_word_of_a_prompt_is_in_no_memory_once_it_is_answered() {
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    let text = format!("Write a long story of {WORD}.");
    // What is still on its way is there, and found.
    let place = serve.url.trim_start_matches("http://");
    let mut half = TcpStream::connect(place).unwrap();
    write!(
        half,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {place}\r\nContent-Length: 99\r\n\r\n{{\"{WORD}"
    )
    .unwrap();
    until("half a request is there", || {
        (times_in(serve.id()) > 0).then_some(())
    });
    drop(half);
    let options = json!({"num_predict": 4});
    for (path, request) in [
        (
            "/v1/responses",
            json!({"input": text, "max_output_tokens": 4}),
        ),
        ("/api/generate", json!({"prompt": text, "options": options})),
        ("/v1/chat/completions", question(&text, 4)),
    ] {
        let answer = Http::default().post(&format!("{}{path}", serve.url), &request.to_string());
        let answer = answer.expect("it answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let refused = Http::default().post(
        &format!("{}/api/chat", serve.url),
        &format!("{{\"{WORD}\": 1}}"),
    );
    assert_eq!(refused.expect("it answers").status, 400);
    until("it is in no memory", || {
        (times_in(serve.id()) == 0).then_some(())
    });
}

#[test]
fn a_word_asked_over_mqtt_is_in_no_memory_but_the_bridges_buffer_once_it_is_answered() {
    let up = Up::start(&[]);
    let all_but_the_bridge = || -> usize {
        let all = with_descendants(up.process.0.id()).into_iter();
        let name =
            |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        let others = all.filter(|id| name(*id).trim() != "cloister-bridge");
        others.map(|id| times_in_memory(id, WORD)).sum()
    };
    let ask = json!({"id": "1", "prompt": format!("Say {WORD}."), "max_tokens": 4});
    let answer = up.ask_over_mqtt(&ask);
    assert!(answer["text"].is_string(), "{answer}");
    until("it is in no memory", || {
        (all_but_the_bridge() == 0).then_some(())
    });
}
