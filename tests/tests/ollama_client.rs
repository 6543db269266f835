//! What Ollama's clients send and read: its package from PyPI, and the requests of Home Assistant and Open WebUI.

use cloister_tests::parts::{SMOLLM2, scripted_r1, smollm2, tiny_bert};
use cloister_tests::python;
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

#[test]
fn models_are_listed_shown_and_pulled() {
    let serve = Serve::start(&smollm2(), &[]);
    python::run("ollama_models.py", &[&serve.url, SMOLLM2]);
}

#[test]
fn chat_and_generate_answer_whole_and_streamed() {
    let serve = Serve::start(&smollm2(), &[]);
    python::run("ollama_chat.py", &[&serve.url, SMOLLM2]);
}

#[test]
fn home_assistant_sets_itself_up_and_talks() {
    let serve = Serve::start(&smollm2(), &[]);
    python::run("home_assistant_ollama.py", &[&serve.url, SMOLLM2]);
}

#[test]
fn open_webui_lists_asks_embeds_and_unloads() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(smollm2(), folder.path().join("smollm2.gguf")).unwrap();
    tiny_bert(folder.path());
    let serve = Serve::start(folder.path(), &["--ctx", "1024"]);
    python::run(
        "open_webui_ollama.py",
        &[&serve.url, "smollm2", "tiny-bert"],
    );
}

/// The lines of a streamed answer.
fn lines(serve: &Serve, path: &str, request: &Value) -> Vec<Value> {
    let answer = serve.post(path, &request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines = answer.body.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

#[test]
fn the_thought_has_a_field_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let script = ["Ċ", "Hmm", "</think>", "ĊĊ", "Yes", "<｜end▁of▁sentence｜>"];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "512"]);
    let show = serve.post("/api/show", &json!({"model": "tiny-r1"}).to_string());
    assert_eq!(
        show.json()["capabilities"],
        json!(["completion", "tools", "thinking"])
    );
    let text = |lines: &[Value], pointer: &str| -> String {
        let pieces = lines
            .iter()
            .filter_map(|line| line.pointer(pointer)?.as_str());
        pieces.collect()
    };
    for (think, thought) in [
        (json!(null), "Hmm"),
        (json!(true), "Hmm"),
        (json!("low"), "Hmm"),
        (json!(false), ""),
    ] {
        let mut request = question("Has a spider legs?", 20);
        request.as_object_mut().unwrap().remove("max_tokens");
        request.as_object_mut().unwrap().remove("temperature");
        request["model"] = json!("tiny-r1");
        request["options"] = json!({"temperature": 0, "num_predict": 20});
        request["think"] = think;
        let chat = lines(&serve, "/api/chat", &request);
        assert_eq!(text(&chat, "/message/thinking"), thought, "{request}");
        assert_eq!(text(&chat, "/message/content"), "Yes", "{request}");
        let mut request = request.clone();
        request.as_object_mut().unwrap().remove("messages");
        request["prompt"] = json!("Has a spider legs?");
        let generated = lines(&serve, "/api/generate", &request);
        assert_eq!(text(&generated, "/thinking"), thought, "{request}");
        assert_eq!(text(&generated, "/response"), "Yes", "{request}");
    }
}

#[test]
fn an_error_has_ollamas_shape() {
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    for (path, body) in [
        ("/api/chat", "{"),
        ("/api/chat", r#"{"model": 7}"#),
        ("/api/chat", r#"{"model": "default", "messages": "Hi"}"#),
        ("/api/generate", r#"{"model": "default", "prompt": []}"#),
        (
            "/api/generate",
            r#"{"model": "default", "prompt": "Hi", "context": [1]}"#,
        ),
        (
            "/api/generate",
            r#"{"model": "default", "prompt": "Hi", "suffix": "x"}"#,
        ),
        (
            "/api/generate",
            r#"{"model": "default", "prompt": "Hi", "speed": 1}"#,
        ),
        ("/api/show", "{}"),
        ("/api/pull", "[]"),
    ] {
        let answer = serve.post(path, body);
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.body);
        let error = answer.json();
        assert!(
            error["error"].as_str().is_some_and(|e| e.len() > 8),
            "{error}"
        );
        assert_eq!(error.as_object().unwrap().len(), 1, "{error}");
    }
}

#[test]
fn what_is_wrong_on_its_paths_is_said_in_its_shape_whoever_finds_it() {
    let (serve, open) = Serve::start_open(&["--tls", "false"]);
    let text =
        |answer: &cloister_tests::http::Answer| answer.json()["error"].as_str().map(str::to_owned);
    for (answer, status, word) in [
        (serve.post("/api/copy", "{}"), 404, "/api/copy"),
        (serve.get("/api/nowhere"), 404, "/api/nowhere"),
        (serve.get("/api/chat"), 405, "method"),
        (serve.post("/api/chat", "{"), 400, "JSON"),
        (
            serve
                .http
                .post(&format!("http://{open}/api/chat"), "{}")
                .unwrap(),
            401,
            "key",
        ),
    ] {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(
            text(&answer).is_some_and(|text| text.contains(word)),
            "{}",
            answer.body
        );
    }
    // The box's own paths, and OpenAI's, have OpenAI's.
    for answer in [
        serve.get("/v1/nowhere"),
        serve.post("/api/render", "{}"),
        serve.post("/api/panel", "{}"),
    ] {
        assert!(
            answer.json()["error"]["message"].is_string(),
            "{}",
            answer.body
        );
    }
}
