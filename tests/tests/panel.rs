//! What the box's panel wants goes before what anybody asks: the privacy switch, the button, the heat.

use std::process::{Command, Stdio};
use std::thread;

use cloister_tests::http::{Http, post_over_unix, post_over_unix_as, put_over_unix};
use cloister_tests::parts::smollm2;
use cloister_tests::process::until;
use cloister_tests::serve::{Serve, question};
use cloister_tests::up::Up;
use serde_json::{Value, json};

/// Says this as the panel; gives the answer's body.
fn tell(serve: &Serve, report: &Value) -> Value {
    let answer = put_over_unix(&serve.socket(), "/api/panel", &report.to_string());
    body(&answer)
}

fn body(answer: &str) -> Value {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn state(serve: &Serve) -> Value {
    let mut events = serve.http.events(&format!("{}/api/events", serve.url));
    serde_json::from_str(&events.next().unwrap()).unwrap()
}

/// The last event of a stream that ends in an error.
fn error_of(events: impl Iterator<Item = String>) -> Value {
    let last = events
        .filter(|event| event != "[DONE]")
        .last()
        .expect("an event");
    let last: Value = serde_json::from_str(&last).unwrap();
    assert!(last["error"].is_object(), "{last}");
    last["error"].clone()
}

/// An answer that does not end by itself: of the two tokens that may come, neither is the last.
fn endless() -> Value {
    let mut request = question("Count to a thousand.", 3000);
    request["response_format"] =
        json!({"type": "grammar", "syntax": "regex", "definition": "[0-9 ]{2500}"});
    request
}

#[test]
fn the_privacy_switch_ends_what_runs_refuses_what_comes_and_outlives_a_restart() {
    let mut serve = Serve::start(&smollm2(), &["--slots", "1"]);
    // One runs, and one waits for its slot.
    let mut running = serve.open_chat_stream(&endless());
    running.next().unwrap();
    let (http, chat) = (
        serve.http.clone(),
        format!("{}/v1/chat/completions", serve.url),
    );
    let waiting = thread::spawn(move || http.post(&chat, &endless().to_string()).unwrap());
    until("one waits", || {
        (serve.metric("queue_waiting") == 1.0).then_some(())
    });

    assert_eq!(tell(&serve, &json!({"private": true}))["private"], true);
    assert_eq!(error_of(running)["code"], "privacy");
    let waiting = waiting.join().unwrap();
    assert_eq!(
        (waiting.status, &waiting.json()["error"]["code"]),
        (503, &json!("privacy"))
    );
    for (path, request) in [
        ("/v1/chat/completions", question("Hello?", 4)),
        ("/v1/responses", json!({"input": "Hello?"})),
        (
            "/api/generate",
            json!({"prompt": "Hello?", "stream": false}),
        ),
        (
            "/api/chat",
            json!({"messages": [{"role": "user", "content": "Hello?"}]}),
        ),
    ] {
        let answer = serve.post(path, &request.to_string());
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        assert!(
            answer.body.contains("privacy switch"),
            "{path}: {}",
            answer.body
        );
    }
    // With the model goes what its memory held.
    until("the model rests", || {
        state(&serve)["model"].is_null().then_some(())
    });
    assert_eq!(state(&serve)["private"], true);
    assert_eq!(serve.get("/health").status, 200, "private is not broken");

    // Nobody but the panel opens it again: neither who asks for others, nor the network, nor a restart.
    let others = post_over_unix_as(&serve.socket(), "/api/panel/stop", "", "somebody");
    assert!(others.starts_with("HTTP/1.1 403"), "{others}");
    let stop = serve.post("/api/panel/stop", "");
    assert_eq!(stop.status, 403, "{}", stop.body);
    serve.restart(&smollm2(), &["--slots", "1"]);
    assert_eq!(
        serve.chat(&question("Hello?", 4)).json()["error"]["code"],
        "privacy"
    );

    // Nor a second panel, whose own switch is off, while the first one is there.
    for (panel, switch, holds) in [(1, true, true), (2, false, true), (1, false, false)] {
        let told = tell(&serve, &json!({"panel": panel, "private": switch}));
        assert_eq!(told["private"], holds);
    }
    until("the model is back", || {
        state(&serve)["model"].is_string().then_some(())
    });
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
}

/// Nobody says where the switch of the box stands, and so neither does `serve`.
fn unheard(serve: &Serve) {
    assert_eq!(state(serve)["private"], Value::Null);
    let metrics = serve.get("/metrics").body;
    assert!(!metrics.contains("cloister_private"), "{metrics}");
}

#[test]
fn a_box_with_a_switch_is_not_open_before_its_panel_says_so() {
    let mut serve = Serve::start(&smollm2(), &["--slots", "1"]);
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
    tell(&serve, &json!({"private": false}));
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
    // Off when the power went; nobody says where it stands now.
    serve.restart(&smollm2(), &["--slots", "1"]);
    let refused = serve.chat(&question("Hello?", 4));
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!("unavailable")),
        "who waits may go on waiting"
    );
    unheard(&serve);
    assert_eq!(tell(&serve, &json!({"private": false}))["private"], false);
    assert_eq!(
        (&state(&serve)["private"], serve.metric("private")),
        (&json!(false), 0.0)
    );
    // A panel that ends leaves it to nobody, and what ran is no case of privacy.
    let mut running = serve.open_chat_stream(&endless());
    running.next().unwrap();
    let told = tell(&serve, &json!({"private": false, "leaves": true}));
    assert_eq!(told["private"], Value::Null);
    assert_eq!(error_of(running)["code"], "unavailable");
    unheard(&serve);
    tell(&serve, &json!({"private": false}));
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
    // Turned on meanwhile: that is what it was turned for.
    serve.restart(&smollm2(), &["--slots", "1"]);
    let kept = serve.state().join("prefixes/kept");
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::write(&kept, "of somebody").unwrap();
    assert_eq!(tell(&serve, &json!({"private": true}))["private"], true);
    until("it is erased", || (!kept.exists()).then_some(()));
    let refused = serve.chat(&question("Hello?", 4)).json();
    assert_eq!(refused["error"]["code"], "privacy");
}

#[test]
fn no_panel_without_a_switch_or_with_a_simulated_one_opens_a_box_that_has_one() {
    let mut serve = Serve::start(&smollm2(), &["--slots", "1"]);
    let status = |serve: &Serve| serve.chat(&question("Hello?", 4)).status;
    let kept = serve.state().join("private");
    // What is simulated holds while it is there, and is not kept.
    let simulated = |on: Option<bool>| json!({"panel": 7, "simulated": true, "private": on});
    assert_eq!(tell(&serve, &simulated(Some(true)))["private"], true);
    assert_eq!(status(&serve), 503);
    assert!(!kept.exists());
    assert_eq!(tell(&serve, &simulated(None))["private"], false);
    assert_eq!(status(&serve), 200);

    let others = [json!({"panel": 2}), simulated(Some(false)), simulated(None)];
    for other in &others {
        tell(&serve, &json!({"panel": 1, "private": false}));
        assert_eq!(status(&serve), 200);
        tell(
            &serve,
            &json!({"panel": 1, "private": false, "leaves": true}),
        );
        for _ in 0..2 {
            assert_eq!(status(&serve), 503, "its own has left: {other}");
            tell(&serve, other);
        }
    }
    serve.restart(&smollm2(), &["--slots", "1"]);
    for other in &others {
        tell(&serve, other);
        assert_eq!(status(&serve), 503, "its own has not spoken: {other}");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "off\n");
    }
    // Who has taken it out says so where nobody else can.
    std::fs::remove_file(&kept).unwrap();
    serve.restart(&smollm2(), &["--slots", "1"]);
    tell(&serve, &others[0]);
    assert_eq!(status(&serve), 200);
}

#[test]
fn erasing_that_was_cut_short_is_finished_at_the_next_start() {
    let mut serve = Serve::start(&smollm2(), &["--slots", "1"]);
    // The one is what an unfinished order leaves, the other what a switch does that was turned just before.
    for (file, says) in [("erase", "7 unfinished\n"), ("private", "on\n")] {
        serve.stop();
        let kept = serve.state().join("prefixes/kept");
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::write(&kept, "of somebody").unwrap();
        std::fs::write(serve.state().join(file), says).unwrap();
        serve.restart(&smollm2(), &["--slots", "1"]);
        assert!(!kept.exists(), "{file}");
    }
    // The bridge has not done its part yet.
    let order = std::fs::read_to_string(serve.state().join("erase")).unwrap();
    assert_eq!(order, "7\n");
}

#[test]
fn the_button_stops_all_that_runs_and_nothing_that_comes_later() {
    let serve = Serve::start(&smollm2(), &["--slots", "1"]);
    let mut running = serve.open_chat_stream(&endless());
    running.next().unwrap();
    body(&post_over_unix(&serve.socket(), "/api/panel/stop", ""));
    assert_eq!(error_of(running)["code"], "stopped");
    // A press with nothing to stop.
    body(&post_over_unix(&serve.socket(), "/api/panel/stop", ""));
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
}

#[test]
fn the_button_stops_who_waits_for_a_model_to_come() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first.gguf", "second.gguf"] {
        std::fs::copy(smollm2(), folder.path().join(name)).unwrap();
    }
    let serve = Serve::start(folder.path(), &["--slots", "1"]);
    // The second comes when the first has answered.
    let mut running = serve.open_chat_stream(&endless());
    running.next().unwrap();
    let (http, chat) = (
        serve.http.clone(),
        format!("{}/v1/chat/completions", serve.url),
    );
    let mut second = question("Hello?", 4);
    second["model"] = json!("second");
    let waiting = thread::spawn(move || http.post(&chat, &second.to_string()).unwrap());
    thread::sleep(std::time::Duration::from_secs(1));
    assert!(!waiting.is_finished());
    body(&post_over_unix(&serve.socket(), "/api/panel/stop", ""));
    assert_eq!(error_of(running)["code"], "stopped");
    let waited = waiting.join().unwrap();
    assert_eq!(waited.status, 503, "{}", waited.body);
    assert!(waited.body.contains("\"stopped\""), "{}", waited.body);
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
}

#[test]
fn heat_slows_the_engine_and_in_the_end_answers_say_why_they_end() {
    let serve = Serve::start(&smollm2(), &["--slots", "1", "--threads", "2"]);
    let board = json!({
        "light": "too_hot", "temperature": 77.5, "power": 9.25, "fan": 100, "fan_speed": 4200,
        "joules_per_token": 0.31, "watt_hours": 61.2, "watt_hours_total": 1204,
        "problems": [{"what": "fan", "why": "blocked"}],
    });
    for throttle in [1, 2, 3] {
        let told = tell(&serve, &json!({"throttle": throttle, "board": board}));
        assert_eq!(told["throttle"], throttle);
        let answer = serve.chat(&question("Hello?", 12));
        assert_eq!(answer.status, 200, "slower, and not less: {}", answer.body);
    }
    let state = state(&serve);
    for (name, figure) in board.as_object().unwrap() {
        let said = match name.as_str() {
            "light" | "problems" => &state["panel"][name],
            _ => &state[name],
        };
        assert_eq!(said, figure, "{name}");
    }
    assert_eq!(
        (&state["throttle"], &state["status"]),
        (&json!(3), &json!("ok"))
    );
    assert_eq!(serve.metric("joules_per_token"), 0.31);
    assert_eq!(serve.metric("watt_hours_total"), 1204.0);
    assert_eq!(serve.metric("throttle_step"), 3.0);

    let mut running = serve.open_chat_stream(&endless());
    running.next().unwrap();
    tell(&serve, &json!({"throttle": 4}));
    let error = error_of(running);
    assert_eq!(error["code"], "too_hot");
    assert!(error["message"].as_str().unwrap().contains("too hot"));
    let refused = serve.chat(&question("Hello?", 4));
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("30"))
    );
    tell(&serve, &json!({"throttle": 0}));
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);

    for wrong in [
        json!({"throttle": 5}),
        json!({"board": {"light": "Hello, who?"}}),
        json!({"x": 1}),
    ] {
        let answer = put_over_unix(&serve.socket(), "/api/panel", &wrong.to_string());
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

/// Publishes an ask of the node `test`.
fn publish(up: &Up, ask: &Value) {
    let published = Command::new("mosquitto_pub")
        .args(["-p", &up.broker_port, "-q", "1", "-t", "cloister/test/ask"])
        .args(["-m", &ask.to_string()])
        .stdin(Stdio::null())
        .status();
    assert!(published.unwrap().success());
}

#[test]
fn over_mqtt_who_waits_hears_of_the_privacy_switch_and_then_the_journal_is_empty() {
    let up = Up::start(&[]);
    let socket = up.folder.path().join("cloister.sock");
    let answers = Command::new("mosquitto_sub")
        .args([
            "-p",
            &up.broker_port,
            "-q",
            "1",
            "-t",
            "cloister/test/answer/+",
            "-F",
            "%p",
        ])
        .args(["-C", "24", "-W", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // More than the bridge puts to the engine at once.
    for id in 0..12 {
        publish(
            &up,
            &json!({"id": format!("w{id}"), "prompt": "Count to a thousand.", "max_tokens": 1500}),
        );
    }
    body(&put_over_unix(
        &socket,
        "/api/panel",
        &json!({"private": true}).to_string(),
    ));
    let answers = answers.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&answers.stdout);
    let codes: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("an answer is JSON"))
        .map(|answer| answer["error"]["code"].clone())
        .collect();
    // Each comes on its own topic and on `answer/last`.
    assert_eq!(codes.len(), 24, "{told}");
    assert!(codes.iter().all(|code| code == "privacy"), "{told}");
    let later = up.ask_over_mqtt(&json!({"id": "1", "prompt": "Hello?"}));
    assert_eq!(later["error"]["code"], "privacy", "{later}");
    let http = Http::default();
    until("the journal is empty", || {
        let ledger = http
            .get(&format!("{}api/privacy", up.page), &[])
            .unwrap()
            .json();
        let stored = ledger["stored"].as_array().unwrap();
        let rows: u64 = stored.iter().map(|of| of["rows"].as_u64().unwrap()).sum();
        (ledger["erasing"] == false && rows == 0).then_some(())
    });
}
