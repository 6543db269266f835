//! Nothing stays: after an answer, neither it nor its prompt is in any file or log of `cloister serve`.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cloister_tests::http::Http;
use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, free_port, until};
use cloister_tests::serve::{engine_turn, question};
use cloister_tests::traces::{files_below, holds, open_files};
use serde_json::{Value, json};

/// A word that is nowhere but in the prompts of this test.
const WORD: &str = "quuxzanzibar";

#[test]
fn after_answers_refusals_and_cancels_no_file_and_no_log_holds_a_word_of_them() {
    let _turn = engine_turn();
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut serve = Process::spawn(
        Command::new(program("cloister"))
            .args([
                "serve",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--ctx",
                "512",
            ])
            .arg("--model")
            .arg(smollm2())
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .env_remove("XDG_STATE_HOME")
            .env("CLOISTER_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(File::create(home.path().join("out")).unwrap())
            .stderr(File::create(&log).unwrap()),
    );
    let http = Http::default();
    until("serve is ready", || {
        assert!(serve.runs(), "serve ended while it started");
        http.get(&format!("{url}/health"), &[])
            .ok()
            .filter(|answer| answer.status == 200)
    });

    let chat = format!("{url}/v1/chat/completions");
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

    let searched: Vec<PathBuf> = [files_below(home.path()), open_files(serve.0.id())].concat();
    // The test looks where it means to: the log is there, and says something.
    assert!(searched.contains(&log) && holds(&log, "is ready"));
    for file in searched {
        assert!(!holds(&file, WORD), "{} holds the prompt", file.display());
        let part = &answer[..answer.floor_char_boundary(20)];
        assert!(!holds(&file, part), "{} holds {part:?}", file.display());
    }
}
