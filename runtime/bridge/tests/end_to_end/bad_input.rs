//! Whatever is sent, there is one clear error, and the bridge goes on. No engine is needed: none of
//! these asks may reach it.

use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker, eventually, python};

#[test]
fn every_bad_ask_gets_one_clear_error_and_the_bridge_goes_on() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let answers = broker.listen(&["cloister/n/answer/#"]);
        let last = "cloister/n/answer/last";
        let copies = broker.listen(&[last]);

        let too_long = vec![b'x'; 2 * 1024 * 1024];
        let long_id = format!(r#"{{"id":"{}","prompt":"a"}}"#, "i".repeat(10 * 1024));
        let invalid = "cloister/n/answer/invalid";
        let cases: &[(&[u8], &str, &str, &str)] = &[
            (b"", invalid, "bad_request", "empty"),
            (b" \n ", invalid, "bad_request", "empty"),
            (b"\xff\xfe", invalid, "bad_request", "UTF-8"),
            (b"{", invalid, "bad_request", "JSON"),
            (b"{\"prompt\": nope}", invalid, "bad_request", "JSON"),
            (&too_long, invalid, "bad_request", "1048576"),
            (long_id.as_bytes(), invalid, "bad_request", "id"),
            (br#"{"id":"","prompt":"a"}"#, invalid, "bad_request", "id"),
            (
                br#"{"id":"a/b","prompt":"a"}"#,
                invalid,
                "bad_request",
                "id",
            ),
            (br#"{"id":"a+","prompt":"a"}"#, invalid, "bad_request", "id"),
            (
                br##"{"id":"#","prompt":"a"}"##,
                invalid,
                "bad_request",
                "id",
            ),
            (br#"{"id":7,"prompt":"a"}"#, invalid, "bad_request", "id"),
            (
                br#"{"id":"e1"}"#,
                "cloister/n/answer/e1",
                "bad_request",
                "prompt",
            ),
            (
                br#"{"id":"e2","prompt":""}"#,
                "cloister/n/answer/e2",
                "bad_request",
                "prompt",
            ),
            (
                br#"{"id":"e3","prompt":"a","deadline":60}"#,
                "cloister/n/answer/e3",
                "bad_request",
                "deadline",
            ),
            (
                br#"{"id":"last","prompt":"a"}"#,
                invalid,
                "bad_request",
                "last",
            ),
            (
                br#"{"id":"e4","prompt":"a","max_tokens":-5}"#,
                "cloister/n/answer/e4",
                "bad_request",
                "max_tokens",
            ),
            (
                br#"{"id":"e5","prompt":"a","temperature":-1}"#,
                "cloister/n/answer/e5",
                "bad_request",
                "temperature",
            ),
            (
                br#"{"id":"e6","prompt":"a","max_tokens":1e300}"#,
                "cloister/n/answer/e6",
                "bad_request",
                "max_tokens",
            ),
            (
                br#"{"id":"e7","prompt":"a","think":1}"#,
                "cloister/n/answer/e7",
                "bad_request",
                "think",
            ),
            (
                br#"{"id":"e8","prompt":"a","format":"xml"}"#,
                "cloister/n/answer/e8",
                "bad_request",
                "format",
            ),
            (
                br#"{"id":"e9","prompt":"a","reply_to":"x/#"}"#,
                "cloister/n/answer/e9",
                "bad_request",
                "x/#",
            ),
            (
                br#"{"id":"e10","prompt":"a","reply_to":"$SYS/x"}"#,
                "cloister/n/answer/e10",
                "bad_request",
                "$SYS",
            ),
            (
                br#"{"id":"e11","prompt":"a","reply_to":"cloister/n/ask"}"#,
                "cloister/n/answer/e11",
                "bad_request",
                "cloister/n/ask",
            ),
            (
                br#"{"id":"e14","prompt":"a","reply_to":"zigbee2mqtt/frontdoor/set"}"#,
                "cloister/n/answer/e14",
                "bad_request",
                "answers",
            ),
            (
                br#"{"id":"e12","prompt":"a","messages":[]}"#,
                "cloister/n/answer/e12",
                "bad_request",
                "messages",
            ),
            (
                br#"{"id":"e13","messages":"a"}"#,
                "cloister/n/answer/e13",
                "bad_request",
                "messages",
            ),
        ];
        for (payload, topic, code, named) in cases {
            broker.publish("cloister/n/ask", payload);
            let answer = answers.next();
            let shown = String::from_utf8_lossy(&payload[..payload.len().min(80)]);
            assert_eq!(answer.topic, *topic, "{shown}");
            assert_eq!(answer.error_code(), *code, "{shown}");
            let message = answer.json()["error"]["message"].to_string();
            assert!(message.contains(named), "{shown}: {message}");
            if topic.starts_with("cloister/n/answer/") {
                assert_eq!(copies.next_on(last).json(), answer.json(), "{shown}");
            }
        }
        assert!(bridge.process.is_running());
        bridge.stop();
    }
}

#[test]
fn an_error_goes_where_the_answer_was_wanted_with_its_correlation_data() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let answers = broker.listen(&["answers/me", "cloister/n/answer/#"]);
    let properties = [
        "-V",
        "5",
        "-D",
        "publish",
        "response-topic",
        "answers/me",
        "-D",
        "publish",
        "correlation-data",
        "c7",
    ];
    broker.publish_with("cloister/n/ask", b"{broken", &properties);
    let answer = answers.next();
    assert_eq!(
        (answer.topic.as_str(), answer.correlation.as_str()),
        ("answers/me", "c7")
    );
    assert_eq!(answer.error_code(), "bad_request");
}

#[test]
fn a_response_topic_that_leads_to_an_ask_or_to_what_others_listen_to_is_refused() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let answers = broker.listen(&["cloister/n/answer/#", "zigbee2mqtt/#"]);
    for topic in [
        "cloister/n/ask",
        "cloister/other/ask",
        "$SYS/x",
        "zigbee2mqtt/frontdoor/set",
    ] {
        broker.publish_with(
            "cloister/n/ask",
            br#"{"id":"loop","prompt":"a"}"#,
            &["-V", "5", "-D", "publish", "response-topic", topic],
        );
        let answer = answers.next();
        assert_eq!(answer.topic, "cloister/n/answer/loop");
        assert_eq!(answer.error_code(), "bad_request");
    }
}

#[test]
fn reply_to_and_response_topic_must_agree() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let answers = broker.listen(&["cloister/n/answer/#"]);
    broker.publish_with(
        "cloister/n/ask",
        br#"{"id":"two","prompt":"a","reply_to":"answers/x"}"#,
        &["-V", "5", "-D", "publish", "response-topic", "answers/y"],
    );
    assert_eq!(
        answers.next_on("cloister/n/answer/two").error_code(),
        "bad_request"
    );
}

#[test]
fn a_cancel_that_names_nothing_harms_nothing() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let mut bridge = Bridge::start_online(&broker, folder.path(), "5");
    let answers = broker.listen(&["cloister/n/answer/#"]);
    for payload in [b"".as_slice(), b"never-asked", b"\xff", b"a/b"] {
        broker.publish("cloister/n/cancel", payload);
    }
    // What comes next is this ask's own answer.
    broker.publish("cloister/n/ask", r#"{"id":"after"}"#);
    assert_eq!(answers.next().topic, "cloister/n/answer/after");
    bridge.stop();
}

#[test]
fn nothing_that_others_say_is_logged_whatever_topic_they_say_it_on() {
    let folder = TempDir::new().unwrap();
    // Whoever wants it there has it refused by the broker, too.
    let broker = Broker::start_with(
        "allow_anonymous true\nacl_file FOLDER/acl\n",
        &[(
            "acl",
            "topic readwrite #\ntopic deny answers/secret/#\ntopic deny home/secret/summary\n",
        )],
    );
    let config = folder.path().join("cloister.toml");
    let recipe = |name: &str, topic: &str, result: &str| {
        format!(
            "[[recipe]]\nname = \"{name}\"\ntopic = \"{topic}\"\nprompt = \"{{{{ json.text }}}}\"\nresult = \"{result}\"\n"
        )
    };
    let recipes = [
        recipe("a", "home/+/text", "home/+/summary"),
        recipe("b", "told/+/#", "heard/+/#"),
    ];
    std::fs::write(&config, recipes.concat()).unwrap();
    let bridge = Bridge::start_at(
        &format!("mqtt://127.0.0.1:{}", broker.port),
        folder.path(),
        "5",
        |command| {
            command.env("CLOISTER_LOG", "trace");
            command.args(["--pools", "p", "--config"]).arg(&config);
        },
    );
    let answers = broker.listen(&["cloister/n/answer/#", "cloister/n/status"]);
    answers.wait_online();
    for payload in [
        r#"{"id":"secret","prompt":"secret","stream":"secret"}"#,
        "{secret",
        r#"{"id":"fine","prompt":"secret","reply_to":"$secret"}"#,
        r#"{"id":"fine","prompt":"secret","reply_to":"secret/set"}"#,
    ] {
        broker.publish("cloister/n/ask", payload);
        answers.next();
    }
    broker.publish(
        "cloister/n/ask",
        r#"{"id":"8","reply_to":"answers/secret/x"}"#,
    );
    let replies = ["-V", "5", "-D", "publish", "response-topic", "secret/set"];
    for topic in [
        "cloister/n/cancel",
        "cloister/n/default/model/set",
        "cloister/n/default/think/set",
        "cloister/n/stop",
        "cloister/n/warm-up",
        "cloister/pool/p/ask",
        "cloister/pool/p/cancel",
        "homeassistant/status",
        "home/secret/text",
        "told/a/secret",
    ] {
        for payload in [
            &b"secret"[..],
            b"\"secret",
            b"\xffsecret",
            b"{\"text\":\"secret\"}",
        ] {
            broker.publish_with(topic, payload, &replies);
        }
        broker.publish_with(topic, b"old secret", &["-r"]);
    }
    // These wait for an engine.
    broker.publish("cloister/n/ask", "a secret prompt");
    broker.publish_with(
        "cloister/n/ask",
        br#"{"id":"w","prompt":"secret"}"#,
        &["-r"],
    );
    broker.publish("cloister/n/cancel", "secret");
    broker.publish("cloister/n/cancel", "w");
    assert_eq!(
        answers.next_on("cloister/n/answer/w").json()["finish_reason"],
        "cancelled"
    );
    // What is said of them is said without their words.
    for told in [
        "an ask is refused",
        "a cancel is ignored",
        "a setting is ignored",
        "the broker will not take an answer",
        "a recipe cannot ask",
    ] {
        eventually("the log says it", || {
            bridge.log().contains(told).then_some(())
        });
    }
    assert!(!bridge.log().contains("secret"), "{}", bridge.log());
}

#[test]
fn an_answer_is_wanted_where_the_owner_lets_it_go_or_is_refused() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let broker = Broker::start();
        let answers = broker.listen(&["cloister/n/#", "zigbee/#", "home/#"]);
        let url = format!("mqtt://127.0.0.1:{}", broker.port);
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
            command.args(["--reply-prefixes", "home/,replies/"]);
        });
        answers.wait_online();
        for topic in ["zigbee/door/set", "home", "home/+/x", "cloister/m/answer/x"] {
            let ask = format!(r#"{{"id":"out","prompt":"a","reply_to":"{topic}"}}"#);
            broker.publish("cloister/n/ask", ask);
            let told = answers.next_on("cloister/n/answer/out");
            assert_eq!(told.error_code(), "bad_request", "{topic}");
        }
        broker.publish("cloister/n/ask", r#"{"id":"in","reply_to":"home/x"}"#);
        assert_eq!(answers.next_on("home/x").json()["id"], "in");
        bridge.stop();
    }
}

#[test]
fn a_flood_from_one_client_is_told_to_wait_and_ends_nothing() {
    const ASKS: usize = 3000;
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let status = broker.listen(&["cloister/n/status"]);
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let mut bridge = Bridge::start_at(&url, folder.path(), "5", |command| {
        command.args(["--max-waiting", "50"]);
    });
    status.wait_online();
    let answers = broker.listen(&["cloister/n/answer/+"]);
    let flood: String = (0..ASKS)
        .map(|n| format!("{{\"id\":\"f{n}\",\"prompt\":\"a\"}}\n"))
        .collect();
    broker.publish_lines("cloister/n/ask", &flood);
    for _ in 50..ASKS {
        let told = answers.next();
        assert_eq!(told.error_code(), "busy");
        assert!(told.json()["error"]["retry_after"].as_u64().unwrap() > 0);
    }
    // Who is in has kept their place, and the way is free again after them.
    broker.publish("cloister/n/stop", "");
    for _ in 0..50 {
        assert_eq!(answers.next().json()["finish_reason"], "cancelled");
    }
    broker.publish("cloister/n/ask", r#"{"id":"after"}"#);
    assert_eq!(answers.next().topic, "cloister/n/answer/after");
    bridge.stop();
}

#[test]
fn more_user_properties_than_are_carried_are_refused_with_how_many() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let answers = broker.listen(&["cloister/n/answer/+"]);
    let long = "x".repeat(17 * 1024);
    let properties = ["-V", "5", "-D", "publish", "user-property", "room", &long];
    broker.publish_with("cloister/n/ask", br#"{"id":"p","prompt":"a"}"#, &properties);
    let told = answers.next_on("cloister/n/answer/p");
    assert_eq!(told.error_code(), "bad_request");
    assert!(told.payload.contains("User Properties"), "{told:?}");
}

#[test]
fn what_is_larger_than_the_owner_wants_is_kept_away_by_the_broker() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let answers = broker.listen(&["cloister/n/answer/+", "cloister/n/status"]);
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let mut bridge = Bridge::start_at(&url, folder.path(), "5", |command| {
        command.args(["--max-packet", "2097152"]);
    });
    answers.wait_online();
    broker.publish("cloister/n/ask", vec![b'x'; 3 * 1024 * 1024]);
    broker.publish("cloister/n/ask", r#"{"id":"next"}"#);
    assert_eq!(answers.next().topic, "cloister/n/answer/next");
    assert!(!bridge.log().contains("no connection"), "{}", bridge.log());
    bridge.stop();
}

#[test]
fn a_flood_of_large_asks_costs_little_memory() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    for version in BOTH_VERSIONS {
        let url = format!("mqtt://127.0.0.1:{}", broker.port);
        let status = broker.listen(&["cloister/n/status"]);
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
            command.args(["--max-waiting", "1"]);
        });
        status.wait_online();
        let states = broker.listen(&["cloister/n/state"]);
        // QoS 0 knows no window: they come as fast as they are read.
        python(
            "flood.py",
            &[&broker.port.to_string(), "cloister/n/ask", "300", "1000000"],
        );
        eventually("all but one are refused", || {
            (states.next().json()["asks"]["refused"] == 299).then_some(())
        });
        let peak = bridge.process.peak_resident_mib();
        println!("{version}: {peak} MiB");
        assert!(peak < 100, "{version}: {peak} MiB");
        bridge.stop();
    }
}
