//! A model that nobody asks is unloaded, and the next request loads it again.

use cloister_tests::parts::smollm2;
use cloister_tests::process::until;
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(smollm2(), folder.path().join("a.gguf")).unwrap();
    folder
}

fn loaded(serve: &Serve) -> Vec<Value> {
    let answer = serve.get("/api/ps").json();
    answer["models"].as_array().unwrap().clone()
}

fn rests(serve: &Serve) {
    until("the model is unloaded", || {
        loaded(serve).is_empty().then_some(())
    });
}

#[test]
fn a_model_that_nobody_asks_is_unloaded_and_loaded_again_when_it_is_asked() {
    let folder = folder();
    let serve = Serve::start(folder.path(), &["--idle-unload", "1s"]);
    rests(&serve);
    // It can answer, and that is what the question is.
    assert_eq!(serve.get("/health").status, 200);
    assert_eq!(serve.get("/v1/models").json()["data"][0]["loaded"], false);
    let answer = serve.chat(&question("Hi", 2));
    assert_eq!(answer.status, 200, "{}", answer.body);
    rests(&serve);
}

#[test]
fn an_answer_that_takes_longer_than_a_model_stays_comes_to_its_end() {
    let folder = folder();
    let serve = Serve::start(folder.path(), &["--idle-unload", "0.1"]);
    let mut long = question("Count from one to ten thousand.", 150);
    long["ignore_eos"] = json!(true);
    let answer = serve.chat(&long);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["usage"]["completion_tokens"], 150);
}

#[test]
fn a_request_says_how_long_its_model_stays() {
    let folder = folder();
    let serve = Serve::start(folder.path(), &["--idle-unload", "-1"]);
    let ask = |keep: Value| {
        let body = json!({"model": "a", "prompt": "Hi", "stream": false, "keep_alive": keep, "options": {"num_predict": 2}});
        let answer = serve.post("/api/generate", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    let ends = || loaded(&serve)[0]["expires_at"].as_str().unwrap().to_owned();
    assert!(ends().starts_with("9999"), "{}", ends());
    ask(json!("10m"));
    let soon = ends();
    assert!(!soon.starts_with("9999"), "{soon}");
    ask(json!(0));
    rests(&serve);
    // What one request said does not hold for the next.
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
    assert!(ends().starts_with("9999"), "{}", ends());
}
