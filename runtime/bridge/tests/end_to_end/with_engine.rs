//! Asks that a real model answers.
//!
//! Where a test needs the middle of an answer it waits for the first piece and then halts the engine
//! with SIGSTOP: what happens next does not depend on how fast the machine is.

use std::collections::HashMap;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker, Cable, Engine, Listener, eventually};

/// An ask whose greedy answer is not over after its first piece.
fn long_ask(id: &str) -> String {
    json!({
        "id": id,
        "prompt": "Write a very long story about a monastery garden.",
        "stream": true,
        "max_tokens": 80,
        "temperature": 0,
    })
    .to_string()
}

fn assert_is_an_answer(answer: &Value) {
    assert!(!answer["text"].as_str().unwrap().is_empty(), "{answer}");
    assert!(matches!(
        answer["finish_reason"].as_str(),
        Some("stop" | "length")
    ));
    assert!(
        answer["usage"]["completion_tokens"].as_u64().unwrap() > 0,
        "{answer}"
    );
    assert!(
        answer["timings"]["predicted_per_second"].as_f64().unwrap() > 0.0,
        "{answer}"
    );
    assert!(answer.get("error").is_none());
}

#[test]
fn plain_text_and_json_asks_are_answered_on_both_versions() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let answers = broker.listen(&["cloister/n/answer/#", "here/please"]);

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
            r#"{"id":"j2","prompt":"Say hello.","max_tokens":5,"reply_to":"here/please"}"#,
        );
        assert_eq!(answers.next_on("here/please").json()["id"], "j2");
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
fn a_repeated_ask_is_not_run_again_neither_while_it_runs_nor_after() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#", "second/place"]);
    // At this temperature two runs would hardly give the same text.
    let ask =
        r#"{"id":"r","prompt":"Invent a word.","stream":true,"max_tokens":60,"temperature":1.5}"#;
    broker.publish("cloister/n/ask", ask);
    heard.next_on("cloister/n/stream/r");
    engine.process.signal("STOP");
    let elsewhere = ["-V", "5", "-D", "publish", "response-topic", "second/place"];
    broker.publish_with("cloister/n/ask", ask.as_bytes(), &elsewhere);
    engine.process.signal("CONT");
    let mut both = Vec::new();
    while both.len() < 2 {
        let next = heard.next();
        if next.topic != "cloister/n/stream/r" {
            both.push(next);
        }
    }
    assert_ne!(both[0].topic, both[1].topic);
    assert_eq!(both[0].payload, both[1].payload);

    broker.publish("cloister/n/ask", ask);
    let again = heard.next();
    assert_eq!(
        again.topic, "cloister/n/answer/r",
        "no piece of a second run"
    );
    assert_eq!(again.payload, both[0].payload);
}

#[test]
fn another_question_under_an_id_in_use_is_refused_and_not_given_the_first_ones_answer() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#"]);
    broker.publish("cloister/n/ask", long_ask("i"));
    heard.next_on("cloister/n/stream/i");
    engine.process.signal("STOP");
    let other = r#"{"id":"i","prompt":"Say hello.","max_tokens":5}"#;
    broker.publish("cloister/n/ask", other);
    let refused = heard.next_on("cloister/n/answer/i");
    assert_eq!(refused.error_code(), "bad_request");
    engine.process.signal("CONT");
    let answer = heard.next_on("cloister/n/answer/i").json();
    assert_is_an_answer(&answer);

    broker.publish("cloister/n/ask", other);
    let refused = heard.next_on("cloister/n/answer/i");
    assert_eq!(refused.error_code(), "bad_request");
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("id"), "{message}");
    // The same fields in another order ask for the same.
    let mut ask: Value = serde_json::from_str(&long_ask("i")).unwrap();
    let prompt = ask["prompt"].take();
    ask.as_object_mut().unwrap().shift_remove("prompt");
    ask["prompt"] = prompt;
    broker.publish("cloister/n/ask", ask.to_string());
    assert_eq!(heard.next_on("cloister/n/answer/i").json(), answer);
}

#[test]
fn what_one_asker_had_computed_is_used_for_them_again_and_for_no_other() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["one's", "another's", "cloister/n/answer/#"]);
    let reused = |reply_to: Option<&str>| {
        let ask = json!({"prompt": "Name a flower.", "max_tokens": 1, "reply_to": reply_to});
        broker.publish("cloister/n/ask", ask.to_string());
        let answer = heard.next().json();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap_or_else(|| panic!("no figure in {answer}"))
    };
    assert_eq!(reused(Some("one's")), 0);
    assert!(reused(Some("one's")) > 0);
    assert_eq!(reused(Some("another's")), 0);
    assert_eq!(reused(None), 0);
    assert!(
        reused(None) > 0,
        "who names no topic is one with the others"
    );
    let by_property = ["-V", "5", "-D", "publish", "response-topic", "another's"];
    let ask = br#"{"prompt": "Name a flower.", "max_tokens": 1}"#;
    broker.publish_with("cloister/n/ask", ask, &by_property);
    let cached = &heard.next().json()["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert!(cached.as_u64().unwrap() > 0, "{cached}");
}

#[test]
fn an_answer_outlives_a_broker_that_is_lost_in_the_middle_of_it() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let mut broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let heard = broker.listen(&["cloister/n/stream/#"]);
        broker.publish("cloister/n/ask", long_ask("lost"));
        heard.next();
        engine.process.signal("STOP");
        broker.down();
        eventually("the bridge sees that the broker is gone", || {
            bridge
                .log()
                .contains("no connection to the broker")
                .then_some(())
        });
        engine.process.signal("CONT");
        broker.up();
        let heard = broker.listen(&["cloister/n/answer/#"]);
        assert_is_an_answer(&heard.next_on("cloister/n/answer/lost").json());
        bridge.stop();
    }
}

#[test]
fn a_cut_connection_loses_neither_the_answer_under_way_nor_the_ask_sent_meanwhile() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let cable = Cable::to(&broker);
        let url = format!("mqtt://127.0.0.1:{}", cable.port);
        let heard = broker.listen(&[
            "cloister/n/answer/#",
            "cloister/n/stream/#",
            "cloister/n/status",
        ]);
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |_| {});
        heard.wait_online();
        for round in ["first", "second", "third"] {
            broker.publish("cloister/n/ask", long_ask(round));
            let stream = format!("cloister/n/stream/{round}");
            heard.next_on(&stream);
            engine.process.signal("STOP");
            cable.cut();
            assert_eq!(heard.next_on("cloister/n/status").payload, "offline");
            let meanwhile = format!(r#"{{"id":"{round}-while","prompt":"Hello","max_tokens":2}}"#);
            broker.publish("cloister/n/ask", meanwhile);
            engine.process.signal("CONT");
            let mut missing = vec![round.to_string(), format!("{round}-while")];
            while !missing.is_empty() {
                let next = heard.next();
                if let Some(id) = next.topic.strip_prefix("cloister/n/answer/") {
                    assert_is_an_answer(&next.json());
                    missing.retain(|missing| missing != id);
                }
            }
        }
        bridge.stop();
    }
}

#[test]
fn an_ask_outlives_the_engine_that_dies_in_the_middle_of_it() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#"]);
    broker.publish("cloister/n/ask", long_ask("d"));
    heard.next();
    drop(engine);
    let state = broker.listen(&["cloister/n/state"]);
    eventually("the state shows no model", || {
        state.next().json()["model"].is_null().then_some(())
    });
    let _engine = Engine::start(folder.path());
    eventually("the state shows the model again", || {
        state.next().json()["model"].is_string().then_some(())
    });
    assert_is_an_answer(&heard.next_on("cloister/n/answer/d").json());
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
fn an_ask_whose_message_expires_while_it_waits_is_told_so() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#"]);
    engine.process.signal("STOP");
    for n in 0..8 {
        let ask = format!(r#"{{"id":"place{n}","prompt":"Hello","max_tokens":2}}"#);
        broker.publish("cloister/n/ask", ask);
    }
    let expiry = ["-V", "5", "-D", "publish", "message-expiry-interval", "1"];
    let late = br#"{"id":"late","prompt":"Hello"}"#;
    broker.publish_with("cloister/n/ask", late, &expiry);
    let first = heard.next();
    assert_eq!(first.topic, "cloister/n/answer/late");
    assert_eq!(first.error_code(), "expired");
    engine.process.signal("CONT");
    for _ in 0..8 {
        assert_is_an_answer(&heard.next().json());
    }
}

#[test]
fn an_ask_that_expires_in_the_engines_queue_is_not_computed_and_one_that_has_begun_is_finished() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#", "cloister/n/stream/#"]);
    let expiry = ["-V", "5", "-D", "publish", "message-expiry-interval", "2"];
    for n in 0..3 {
        broker.publish("cloister/n/ask", long_ask(&n.to_string()));
        heard.next_on(&format!("cloister/n/stream/{n}"));
    }
    // On a busy machine it may expire before its turn comes.
    let begun = eventually("an ask begins in time", || {
        broker.publish_with("cloister/n/ask", long_ask("begun").as_bytes(), &expiry);
        let first = loop {
            let next = heard.next();
            if next.topic.ends_with("/begun") {
                break next;
            }
        };
        first.topic.contains("/stream/").then_some(first)
    });
    engine.process.signal("STOP");
    broker.publish_with("cloister/n/ask", long_ask("late").as_bytes(), &expiry);
    let late = heard.next_on("cloister/n/answer/late");
    assert_eq!(late.error_code(), "expired");
    engine.process.signal("CONT");

    let answer = heard.next_on("cloister/n/answer/begun").json();
    assert_is_an_answer(&answer);
    let first = begun.json()["delta"].as_str().unwrap().to_owned();
    assert!(answer["text"].as_str().unwrap().starts_with(&first));
    eventually("the engine is idle", || {
        (engine.metric("slots_busy") + engine.metric("queue_waiting") == 0.0).then_some(())
    });
    assert_eq!(engine.metric("requests_finished_total"), 4.0);
}

#[test]
fn more_asks_than_may_wait_are_told_when_to_come_again_and_all_others_are_answered() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let heard = broker.listen(&["cloister/n/answer/+", "cloister/n/status"]);
    let _bridge = Bridge::start_at(&url, folder.path(), "5", |command| {
        command.args(["--max-waiting", "40"]);
    });
    heard.wait_online();
    engine.process.signal("STOP");
    // Each line is an ask: `-l` publishes them over one connection.
    let asks: String = (0..41)
        .map(|n| {
            format!("{{\"id\":\"{n}\",\"prompt\":\"Hello\",\"max_tokens\":1,\"reply_to\":\"cloister/n/answer/a{n}\"}}\n")
        })
        .collect();
    broker.publish_lines("cloister/n/ask", &asks);
    let first = heard.next();
    assert_eq!(first.topic, "cloister/n/answer/a40");
    assert_eq!(first.error_code(), "busy");
    let retry_after = &first.json()["error"]["retry_after"];
    assert!(
        retry_after.as_u64().is_some_and(|seconds| seconds > 0),
        "{first:?}"
    );
    engine.process.signal("CONT");
    let mut answered: Vec<String> = (0..40)
        .map(|_| {
            let answer = heard.next().json();
            assert!(answer.get("error").is_none(), "{answer}");
            answer["id"].as_str().unwrap().to_string()
        })
        .collect();
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 40);
}

#[test]
fn what_was_asked_before_the_bridge_stopped_or_was_killed_is_answered_after() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        for clean_end in [true, false] {
            let broker = Broker::start();
            let mut bridge = Bridge::start_online(&broker, folder.path(), version);
            let heard = broker.listen(&["cloister/n/answer/+", "cloister/n/stream/#"]);
            let id = format!("w-{version}-{clean_end}");
            broker.publish("cloister/n/ask", long_ask(&id));
            heard.next_on(&format!("cloister/n/stream/{id}"));
            engine.process.signal("STOP");
            if clean_end {
                bridge.stop();
            } else {
                bridge.process.kill();
            }
            engine.process.signal("CONT");
            let _bridge = Bridge::start(&broker, folder.path(), version);
            let answer = heard.next_on(&format!("cloister/n/answer/{id}")).json();
            assert_is_an_answer(&answer);
        }
    }
}

#[test]
fn an_answer_is_erased_in_time_and_its_id_is_remembered() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let heard = broker.listen(&["cloister/n/answer/+", "cloister/n/status"]);
    let start = || {
        Bridge::start_at(&url, folder.path(), "5", |command| {
            command.args(["--keep-answers", "1"]);
        })
    };
    let mut bridge = start();
    heard.wait_online();
    let ask =
        r#"{"id":"e","prompt":"Say zanzibar.","max_tokens":8,"reply_to":"cloister/n/answer/x"}"#;
    broker.publish("cloister/n/ask", ask);
    let text = heard.next().json()["text"].as_str().unwrap().to_string();
    assert!(!text.is_empty());
    let on_disk = |text: &str| {
        std::fs::read_dir(folder.path().join("state"))
            .unwrap()
            .any(|file| {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                bytes
                    .windows(text.len())
                    .any(|found| found == text.as_bytes())
            })
    };
    eventually("question and answer are erased", || {
        (!on_disk("zanzibar") && !on_disk(&text)).then_some(())
    });
    for _ in 0..2 {
        broker.publish("cloister/n/ask", ask);
        assert_eq!(heard.next().error_code(), "answered");
        bridge.process.kill();
        bridge = start();
        heard.wait_online();
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
    let broker = Broker::start_with_largest_packet(600);
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
    let heard = broker.listen_as("%t\t%D %P %C\t%p", &["cloister/n/answer/+"]);
    let properties = "-V 5 -D publish user-property room attic -D publish content-type text/plain";
    let properties: Vec<&str> = properties.split(' ').collect();
    broker.publish_with("cloister/n/ask", b"{Say hello.}", &properties);
    let answer = heard.next();
    assert_is_an_answer(&answer.json());
    assert_eq!(answer.correlation.trim(), "room:attic application/json");
}

/// Two boxes, `one` and `two`, that share the asks of the pool `p`.
struct Pool {
    folders: [TempDir; 2],
    _engines: [Engine; 2],
    url: String,
    heard: Listener,
}

const POOL_ASKS: usize = 200;

impl Pool {
    fn at(broker: &Broker) -> Self {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        Self {
            _engines: [0, 1].map(|n| Engine::start(folders[n].path())),
            folders,
            url: format!("mqtt://127.0.0.1:{}", broker.port),
            heard: broker.listen(&["cloister/pool/p/answer/+", "cloister/+/status"]),
        }
    }

    fn start(&self, n: usize) -> Bridge {
        Bridge::start_at(&self.url, self.folders[n].path(), "5", |command| {
            command.args(["--node", ["one", "two"][n], "--pools", "p"]);
        })
    }

    fn start_both(&self) -> [Bridge; 2] {
        [0, 1].map(|n| {
            let bridge = self.start(n);
            let status = format!("cloister/{}/status", ["one", "two"][n]);
            while self.heard.next_on(&status).payload != "online" {}
            bridge
        })
    }

    fn ask(&self, broker: &Broker) {
        let asks: String = (0..POOL_ASKS)
            .map(|n| format!("{{\"id\":\"{n}\",\"prompt\":\"Hello\",\"max_tokens\":2}}\n"))
            .collect();
        broker.publish_lines("cloister/pool/p/ask", &asks);
    }

    /// The next answer, held against those that came before; false if it is a repeat.
    fn hear(&self, answered: &mut HashMap<String, String>) -> bool {
        let answer = loop {
            let heard = self.heard.next();
            if !heard.topic.ends_with("/status") {
                break heard;
            }
        };
        assert_is_an_answer(&answer.json());
        let earlier = answered.insert(answer.topic, answer.payload.clone());
        if let Some(earlier) = &earlier {
            assert_eq!(*earlier, answer.payload, "answered twice, differently");
        }
        earlier.is_none()
    }
}

#[test]
fn two_boxes_in_a_pool_have_at_least_two_fifths_of_the_work_each_and_do_none_twice() {
    let broker = Broker::start();
    let pool = Pool::at(&broker);
    let mut bridges = pool.start_both();
    pool.ask(&broker);
    let mut answered = HashMap::new();
    while answered.len() < POOL_ASKS {
        assert!(pool.hear(&mut answered), "an answer came twice");
    }
    let counts = ["one", "two"].map(|name| {
        let states = broker.listen(&[&format!("cloister/{name}/state")]);
        eventually("the state shows all answers", || {
            let asks = states.next().json()["asks"].clone();
            let left = asks["waiting"].as_u64()? + asks["running"].as_u64()?;
            (left == 0).then(|| asks["answered"].as_u64())?
        })
    });
    println!("answered by each: {counts:?}");
    assert_eq!(counts[0] + counts[1], POOL_ASKS as u64);
    assert!(counts.iter().all(|count| *count >= 80), "{counts:?}");
    for bridge in &mut bridges {
        bridge.stop();
    }
}

#[test]
fn two_boxes_share_a_pools_asks_and_one_that_is_killed_half_way_loses_none() {
    let broker = Broker::start();
    let pool = Pool::at(&broker);
    let mut bridges = pool.start_both();
    pool.ask(&broker);
    let mut answered = HashMap::new();
    let mut killed = false;
    while answered.len() < POOL_ASKS {
        if answered.len() == POOL_ASKS / 2 && !killed {
            killed = true;
            bridges[1].process.kill();
            bridges[1] = pool.start(1);
        }
        pool.hear(&mut answered);
    }
    for bridge in &mut bridges {
        bridge.stop();
    }
}
