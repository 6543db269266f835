//! Asks that say how the answer is to look, how much is to be thought, and until when it is wanted.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::{Bridge, Broker, Engine, Listener, eventually, tiny_r1};

/// Asks with these fields; returns the answer.
fn ask(broker: &Broker, heard: &Listener, fields: Value) -> Value {
    let mut ask = json!({"prompt": "Has a spider legs?", "max_tokens": 60, "temperature": 0});
    ask.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    broker.publish("cloister/n/ask", ask.to_string());
    heard.next().json()
}

#[test]
fn the_thought_comes_apart_from_the_answer_and_only_where_it_is_wanted() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start_with(&tiny_r1(folder.path()), folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/+"]);
    for think in [json!(null), json!(true), json!("low")] {
        let answer = ask(&broker, &heard, json!({"think": think}));
        assert_eq!(
            (&answer["reasoning"], &answer["text"]),
            (&json!("Hmm"), &json!("Yes"))
        );
    }
    for think in [json!(false), json!("none")] {
        let answer = ask(&broker, &heard, json!({"think": think}));
        assert_eq!(
            (answer.get("reasoning"), &answer["text"]),
            (None, &json!("Yes"))
        );
    }
    let refused = ask(&broker, &heard, json!({"think": "endlessly"}));
    assert_eq!(refused["error"]["code"], "bad_request");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("minimal, low, medium"), "{message}");
}

#[test]
fn an_answer_has_the_shape_that_was_asked_for() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/+"]);
    let schema = json!({
        "type": "object",
        "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["legs"],
        "additionalProperties": false,
    });
    let answer = ask(&broker, &heard, json!({"format": schema}));
    let text: Value = serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
    assert!(text["legs"].is_u64(), "{answer}");
    let answer = ask(
        &broker,
        &heard,
        json!({"format": "json", "max_tokens": 400}),
    );
    assert_eq!(answer["finish_reason"], "stop", "{answer}");
    let text: Value = serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
    assert!(text.is_object(), "{answer}");

    let keyword = json!({"type": "object", "propertyNames": {"format": "idn-email"}});
    let refused = ask(&broker, &heard, json!({"format": keyword}));
    assert_eq!(refused["error"]["code"], "bad_request", "{refused}");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("propertyNames"), "{message}");
    assert!(!message.contains("response_format"), "{message}");
    let refused = ask(&broker, &heard, json!({"think": true}));
    assert_eq!(refused["error"]["code"], "unsupported", "{refused}");
}

#[test]
fn an_answer_that_is_not_complete_by_its_deadline_ends_there() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/+", "cloister/n/stream/#"]);
    let now = || {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        since.unwrap().as_secs_f64()
    };
    // On a busy machine it may be late before its turn comes.
    let deadline = eventually("an ask begins in time", || {
        let deadline = now() + 3.0;
        let ask = json!({
            "prompt": "Write a very long story about a monastery garden.",
            "stream": true,
            "max_tokens": 1000,
            "deadline": deadline,
        });
        broker.publish("cloister/n/ask", ask.to_string());
        let begun = heard.next().topic.contains("/stream/");
        begun.then_some(deadline)
    });
    engine.process.signal("STOP");
    while now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    engine.process.signal("CONT");
    let answer = loop {
        let next = heard.next();
        if next.topic.contains("/answer/") {
            break next;
        }
    };
    assert_eq!(answer.error_code(), "expired");
    assert_eq!(engine.metric("requests_finished_total"), 0.0);
    eventually("the engine is idle", || {
        (engine.metric("slots_busy") + engine.metric("queue_waiting") == 0.0).then_some(())
    });
}
