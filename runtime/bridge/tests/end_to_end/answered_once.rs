//! An ask has its one answer, whatever is asked again, and whatever goes away in between.

use serde_json::Value;
use tempfile::TempDir;

use crate::parts::{
    BOTH_VERSIONS, Bridge, Broker, Cable, Engine, assert_is_an_answer, eventually, long_ask,
};

#[test]
fn a_repeated_ask_is_not_run_again_neither_while_it_runs_nor_after() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&[
        "cloister/n/answer/#",
        "cloister/n/stream/#",
        "answers/elsewhere",
    ]);
    // At this temperature two runs would hardly give the same text.
    let ask =
        r#"{"id":"r","prompt":"Invent a word.","stream":true,"max_tokens":60,"temperature":1.5}"#;
    broker.publish("cloister/n/ask", ask);
    heard.next_on("cloister/n/stream/r");
    engine.process.signal("STOP");
    let elsewhere = [
        "-V",
        "5",
        "-D",
        "publish",
        "response-topic",
        "answers/elsewhere",
    ];
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
