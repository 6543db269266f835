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
    assert!(ends().starts_with("2318"), "{}", ends());
    ask(json!("10m"));
    let soon = ends();
    assert!(!soon.starts_with("2318"), "{soon}");
    ask(json!(0));
    rests(&serve);
    // What one request said does not hold for the next.
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
    assert!(ends().starts_with("2318"), "{}", ends());
}

#[test]
fn nobody_unloads_what_another_client_wants_but_the_owner_and_an_admin() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let key = |name: &str, scope: &str| {
        let key = serve.command(&["keys", "add", name, "--scope", scope]);
        format!("Bearer {}", key.trim())
    };
    let (one, other, admin) = (key("one", "ask"), key("other", "ask"), key("boss", "admin"));
    let generate = |key: &str, prompt: &str, keep: Value| {
        let body = json!({"prompt": prompt, "stream": false, "keep_alive": keep, "options": {"num_predict": 2}});
        let url = format!("http://{open}/api/generate");
        let key = [("authorization", key)];
        let answer = serve.http.post_with(&url, &body.to_string(), &key);
        let answer = answer.expect("serve answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["done_reason"].as_str().unwrap().to_owned()
    };
    generate(&one, "Hi", json!("10m"));
    generate(&other, "Hi", json!(0));
    assert_eq!(generate(&other, "", json!(0)), "unload");
    // Longer than it takes until an idle model is seen.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(loaded(&serve).len(), 1);
    // The one that it stayed for is its last client.
    generate(&one, "", json!(0));
    rests(&serve);
    generate(&one, "Hi", json!("10m"));
    generate(&admin, "", json!(0));
    assert!(loaded(&serve).is_empty());
    generate(&one, "Hi", json!("10m"));
    serve.post("/api/generate", &json!({"keep_alive": 0}).to_string());
    assert!(loaded(&serve).is_empty());
}

#[test]
fn what_is_counted_goes_on_when_the_model_goes() {
    let folder = folder();
    let serve = Serve::start(folder.path(), &["--idle-unload", "-1"]);
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
    let counters = [
        "requests_finished_total",
        "requests_cancelled_total",
        "prompt_tokens_total",
        "generated_tokens_total",
        "batches_total",
    ];
    let counted = || counters.map(|name| serve.metric(name));
    until("it is counted", || {
        (counted()[0] == 1.0 && counted()[3] > 0.0).then_some(())
    });
    let before = counted();
    serve.post("/api/generate", &json!({"keep_alive": 0}).to_string());
    assert!(loaded(&serve).is_empty());
    assert_eq!(counted(), before);
    assert_eq!(
        (serve.metric("slots"), serve.metric("slots_busy")),
        (0.0, 0.0)
    );
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
    until("the next is counted", || {
        (counted()[0] == 2.0).then_some(())
    });
    let after = counted();
    assert!(
        before
            .iter()
            .zip(after)
            .all(|(before, after)| *before <= after)
    );
    assert!(after[2] > before[2] && after[4] > before[4], "{after:?}");
}
