//! Recipes: what is said on a topic of the house is answered on another, by a real model.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker, Engine, eventually};

const RECIPES: &str = r#"
[[recipe]]
name = "summary"
topic = "home/+/text"
prompt = "At the {{ levels[1] }}: {{ text }}"
result = "home/+/summary"
max_tokens = 8
temperature = 0
per_minute = 2

[[recipe]]
name = "urgency"
topic = "home/doorbell/event"
prompt = "How urgent is {{ json.what }}?"
result = "home/doorbell/urgency"
format = { type = "object", properties = { urgent = { type = "boolean" } }, required = ["urgent"], additionalProperties = false }

[[recipe]]
name = "broken"
topic = "home/doorbell/event"
prompt = "{{ json.what.too.deep }}"
result = "home/never"

[[recipe]]
name = "refused"
topic = "home/doorbell/event"
prompt = "Is this so? {{ text }}"
model = "no-such-model"
result = "home/never"
"#;

fn cooking(broker: &Broker, folder: &Path, version: &str) -> Bridge {
    let config = folder.join("cloister.toml");
    std::fs::write(&config, RECIPES).unwrap();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let status = broker.listen(&["cloister/n/status"]);
    let bridge = Bridge::start_at(&url, folder, version, |command| {
        command.arg("--config").arg(config);
    });
    status.wait_online();
    bridge
}

#[test]
fn what_is_said_on_a_topic_is_answered_on_another() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        broker.publish_with("home/old/text", b"Old news.", &["-r"]);
        let mut bridge = cooking(&broker, folder.path(), version);
        let heard = broker.listen(&[
            "home/+/summary",
            "home/+/urgency",
            "home/never",
            "cloister/n/answer/#",
        ]);

        broker.publish("home/doorbell/text", "Somebody is at the door.");
        let summary = heard.next();
        assert_eq!(summary.topic, "home/doorbell/summary");
        assert!(!summary.payload.is_empty());

        broker.publish(
            "home/doorbell/event",
            r#"{"what":"a parcel that is secret"}"#,
        );
        let urgency = heard.next();
        assert_eq!(urgency.topic, "home/doorbell/urgency");
        assert!(urgency.json()["urgent"].is_boolean(), "{}", urgency.payload);

        // No template can do anything with these; nobody but the log is told.
        for bad in [b"no JSON".as_slice(), b"\xff\xfe", b""] {
            broker.publish("home/doorbell/event", bad);
        }
        // Of these, the second is one too many in a minute.
        broker.publish("home/garden/text", "It rains.");
        broker.publish("home/garden/text", "It rains more.");
        assert_eq!(heard.next().topic, "home/garden/summary");

        let states = broker.listen(&["cloister/n/state"]);
        eventually("the state shows what the recipes did", || {
            let state = states.next().json();
            let wanted = json!({
                "summary": {"asked": 2, "failed": 0, "skipped": 2},
                "urgency": {"asked": 1, "failed": 3, "skipped": 0},
                "broken": {"asked": 0, "failed": 4, "skipped": 0},
                // One is no text, and three have an error in place of an answer.
                "refused": {"asked": 3, "failed": 4, "skipped": 0},
            });
            (state["recipes"] == wanted).then_some(())
        });
        let log = bridge.log();
        assert!(log.contains("a recipe cannot ask"), "{log}");
        assert!(log.contains("broken"), "{log}");
        assert!(
            log.contains(r#"ends in an error recipe="refused" code=ModelNotFound"#),
            "{log}"
        );
        assert!(!log.contains("secret"), "{log}");
        bridge.stop();
    }
}

#[test]
fn what_a_recipe_asked_is_answered_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let mut bridge = cooking(&broker, folder.path(), "5");
    let states = broker.listen(&["cloister/n/state"]);
    broker.publish("home/doorbell/text", "Somebody is at the door.");
    eventually("it is journalled", || {
        let asks = states.next().json()["asks"].clone();
        (asks["waiting"].as_u64()? + asks["running"].as_u64()? == 1).then_some(())
    });
    bridge.process.kill();
    let results = broker.listen(&["home/doorbell/summary"]);
    let _bridge = cooking(&broker, folder.path(), "5");
    let _engine = Engine::start(folder.path());
    assert!(!results.next().payload.is_empty());
}

#[test]
fn a_recipe_that_would_feed_itself_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::reserve();
    let config = folder.path().join("cloister.toml");
    std::fs::write(&config, RECIPES.replace("home/+/summary", "home/+/text")).unwrap();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let mut bridge = Bridge::start_at(&url, folder.path(), "5", |command| {
        command.arg("--config").arg(config);
    });
    assert_eq!(bridge.process.wait().code(), Some(2));
    let log = bridge.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("\"summary\"") && log.contains("home/+/text"),
        "{log}"
    );
}
