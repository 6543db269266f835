//! The same interface through another client: paho-mqtt.

use serde_json::Value;
use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker, Engine, documented, python, tiny_r1};

#[test]
fn the_program_of_the_documentation_prints_the_answer() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start_with(&tiny_r1(folder.path()), folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let script = documented("ask.py");
    let address = format!("127.0.0.1:{}", broker.port);
    let arguments = [address.as_str(), "n", "Has a spider legs?"];
    assert_eq!(python(script.to_str().unwrap(), &arguments), "Yes\n");
}

#[test]
fn paho_gets_its_answer_on_its_response_topic_with_its_correlation_data() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    // The bridge's own version and the asker's are independent, but for the properties.
    for version in BOTH_VERSIONS {
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let printed = python("ask.py", &[&broker.port.to_string(), version]);
        let heard: Value = serde_json::from_str(&printed).unwrap();
        assert!(
            heard["answer"]["text"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{heard}"
        );
        if version == "5" {
            assert_eq!(heard["topic"], "answers/paho");
            assert_eq!(heard["correlation"], "0001fffe");
        } else {
            assert_eq!(heard["topic"], "cloister/n/answer/paho");
        }
        bridge.stop();
    }
}
