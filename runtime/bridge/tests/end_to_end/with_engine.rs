//! Asks that a real model answers.
//!
//! Where a test needs the middle of an answer, here and in the files beside, it waits for the first piece and
//! then halts the engine with SIGSTOP: what happens next does not depend on how fast the machine is.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::{
    BOTH_VERSIONS, Bridge, Broker, Engine, assert_is_an_answer, eventually, long_ask, tiny_r1,
};

#[test]
fn plain_text_and_json_asks_are_answered_on_both_versions() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let answers = broker.listen(&["cloister/n/answer/#", "answers/please"]);

        broker.publish("cloister/n/ask", "Say hello.");
        let plain = answers.next();
        let answer = plain.json();
        assert_is_an_answer(&answer);
        let id = answer["id"].as_str().unwrap();
        assert_eq!(plain.topic, format!("cloister/n/answer/{id}"));
        let last = answers.next_on("cloister/n/answer/last");
        assert_eq!(last.payload, plain.payload);
        let bare = answers.next();
        assert_eq!(bare.topic, "cloister/n/answer/text");
        // `mosquitto_sub` writes a line for each of its lines; the first tells enough.
        let text = answer["text"].as_str().unwrap();
        assert_eq!(Some(bare.payload.as_str()), text.lines().next());

        broker.publish(
            "cloister/n/ask",
            r#"{"id":"j1","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Say hello."}],"max_tokens":5,"temperature":0}"#,
        );
        let json = answers.next_on("cloister/n/answer/j1").json();
        assert_is_an_answer(&json);
        assert!(json["usage"]["completion_tokens"].as_u64().unwrap() <= 5);

        broker.publish(
            "cloister/n/ask",
            r#"{"id":"j2","prompt":"Say hello.","max_tokens":5,"reply_to":"answers/please"}"#,
        );
        assert_eq!(answers.next_on("answers/please").json()["id"], "j2");
        bridge.stop();
    }
}

#[test]
fn the_pieces_of_a_stream_are_the_answer() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#"]);
        broker.publish(
            "cloister/n/ask",
            r#"{"id":"s","prompt":"Count to ten.","stream":true,"max_tokens":40,"temperature":0}"#,
        );
        let mut text = String::new();
        let mut pieces = 0;
        let answer = loop {
            let next = heard.next();
            if next.topic == "cloister/n/answer/s" {
                break next.json();
            }
            let piece = next.json();
            assert_eq!(piece["id"], "s");
            assert_eq!(piece["seq"], pieces);
            text += piece["delta"].as_str().unwrap();
            pieces += 1;
        };
        assert!(pieces > 1, "it came in one piece");
        assert_eq!(answer["text"], text);
        bridge.stop();
    }
}

#[test]
fn without_stream_there_are_no_pieces() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#"]);
    broker.publish(
        "cloister/n/ask",
        r#"{"id":"q","prompt":"Hello","max_tokens":5}"#,
    );
    assert_eq!(heard.next().topic, "cloister/n/answer/q");
}

#[test]
fn a_cancelled_ask_gets_its_one_answer_with_the_text_so_far_and_frees_its_slot() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#"]);
        broker.publish("cloister/n/ask", long_ask("c"));
        let first = heard.next().json();
        engine.process.signal("STOP");
        broker.publish("cloister/n/cancel", "c");
        let answer = heard.next_on("cloister/n/answer/c").json();
        engine.process.signal("CONT");
        assert_eq!(answer["finish_reason"], "cancelled");
        let text = answer["text"].as_str().unwrap();
        assert!(text.starts_with(first["delta"].as_str().unwrap()), "{text}");
        assert!(answer.get("error").is_none());

        let state = broker.listen(&["cloister/n/state"]);
        eventually("the engine is idle again", || {
            (state.next().json()["slots"]["busy"] == 0).then_some(())
        });
        broker.publish("cloister/n/ask", long_ask("c"));
        let repeat = heard.next().json();
        assert_eq!(repeat, answer, "a repeat gets the same answer");
        bridge.stop();
    }
}

#[test]
fn what_one_asker_had_computed_is_used_for_them_again_and_for_no_other() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["answers/one's", "answers/another's", "cloister/n/answer/#"]);
    let reused = |reply_to: Option<&str>| {
        let ask = json!({"prompt": "Name a flower.", "max_tokens": 1, "reply_to": reply_to});
        broker.publish("cloister/n/ask", ask.to_string());
        let answer = heard.next().json();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap_or_else(|| panic!("no figure in {answer}"))
    };
    assert_eq!(reused(Some("answers/one's")), 0);
    assert!(reused(Some("answers/one's")) > 0);
    assert_eq!(reused(Some("answers/another's")), 0);
    assert_eq!(reused(None), 0);
    assert!(
        reused(None) > 0,
        "who names no topic is one with the others"
    );
    let by_property = [
        "-V",
        "5",
        "-D",
        "publish",
        "response-topic",
        "answers/another's",
    ];
    let ask = br#"{"prompt": "Name a flower.", "max_tokens": 1}"#;
    broker.publish_with("cloister/n/ask", ask, &by_property);
    let cached = &heard.next().json()["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert!(cached.as_u64().unwrap() > 0, "{cached}");
}

#[test]
fn the_engines_refusals_come_with_their_codes() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#"]);
    let too_long = json!({"prompt": "word ".repeat(100_000)}).to_string();
    for (payload, code) in [
        (
            r#"{"prompt":"a","model":"no-such-model"}"#,
            "model_not_found",
        ),
        (too_long.as_str(), "context_length_exceeded"),
        (r#"{"messages":[{"role":"user"}]}"#, "bad_request"),
        (
            r#"{"messages":[{"role":"nobody","content":"a"}]}"#,
            "unsupported",
        ),
    ] {
        broker.publish("cloister/n/ask", payload);
        let shown = &payload[..payload.len().min(80)];
        assert_eq!(heard.next().error_code(), code, "{shown}");
    }
}

#[test]
fn the_state_shows_the_model_and_what_it_does() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let state = broker.listen(&["cloister/n/state"]);
        let state = eventually("a state with a model comes", || {
            Some(state.next().json()).filter(|state| state["model"].is_string())
        });
        assert!(state["slots"]["total"].as_u64().unwrap() > 0, "{state}");
        assert!(state["queue"]["waiting"].is_u64(), "{state}");
        assert!(state["tokens_per_second"]["decode"].is_number(), "{state}");
        bridge.stop();
    }
}

#[test]
fn an_answer_too_large_for_the_broker_is_told_and_does_not_break_the_connection() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start_with("allow_anonymous true\nmax_packet_size 600\n", &[]);
    let bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#"]);
    let ask = r#"{"id":"big","prompt":"Tell a long story.","max_tokens":300,"temperature":0}"#;
    broker.publish("cloister/n/ask", ask);
    assert_eq!(heard.next().error_code(), "internal");
    assert!(!bridge.log().contains("no connection"));
}

#[test]
fn what_came_with_an_ask_comes_back_with_its_answer() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen_as("%t\t%q %D %P %C\t%p", &["cloister/n/answer/+"]);
    let properties = "-V 5 -D publish user-property room attic -D publish content-type text/plain";
    let properties: Vec<&str> = properties.split(' ').collect();
    broker.publish_with("cloister/n/ask", b"{Say hello.}", &properties);
    let answer = heard.next();
    assert_is_an_answer(&answer.json());
    let carried: Vec<_> = answer.correlation.split_whitespace().collect();
    assert_eq!(
        carried,
        ["1", "room:attic", "application/json"],
        "QoS and properties"
    );
}

#[test]
fn the_command_of_the_documentation_asks_waits_and_prints_the_answer() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start_with(&tiny_r1(folder.path()), folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let output = Command::new("mosquitto_rr")
        .args(["-p", &broker.port.to_string(), "-V", "5", "-q", "1"])
        .args(["-t", "cloister/n/ask", "-e", "answers/me"])
        .args(["-m", "Has a spider legs?"])
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["text"], "Yes", "{answer}");
}
