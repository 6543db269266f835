//! What a broker says no to is told in words, by what it is about, and costs nothing else.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;
use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker, eventually};

/// A Mosquitto that keeps these from everybody: to listen to, and to publish to.
fn forbidding(filter: &str, topic: &str) -> Broker {
    let plugin = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|folder| folder.unwrap().path().join("mosquitto_dynamic_security.so"))
        .find(|file| file.exists())
        .expect("Debian's mosquitto has this plugin");
    let roles = json!({
        "defaultACLAccess": {
            "publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true
        },
        "groups": [{"groupname": "everybody", "roles": [{"rolename": "some"}]}],
        "anonymousGroup": "everybody",
        "roles": [{"rolename": "some", "acls": [
            {"acltype": "subscribeLiteral", "topic": filter, "allow": false},
            {"acltype": "publishClientSend", "topic": topic, "allow": false},
        ]}],
    });
    Broker::start_with(
        &format!(
            "allow_anonymous true\nplugin {}\nplugin_opt_config_file FOLDER/roles\n",
            plugin.display()
        ),
        &[("roles", &roles.to_string())],
    )
}

fn in_pool_p(broker: &Broker, folder: &TempDir, version: &str) -> Bridge {
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    Bridge::start_at(&url, folder.path(), version, |command| {
        command.args(["--pools", "p"]);
    })
}

#[test]
fn a_topic_that_the_broker_keeps_from_the_box_is_named_and_the_others_work() {
    for (version, why) in [("5", "not authorized"), ("3.1.1", "failure")] {
        let pool = "$share/p/cloister/pool/p/ask";
        let broker = forbidding(pool, "nothing");
        let folder = TempDir::new().unwrap();
        let status = broker.listen(&["cloister/n/status"]);
        let mut bridge = in_pool_p(&broker, &folder, version);
        status.wait_online();
        let log = bridge.log();
        assert!(
            log.contains(&format!("let us listen on {pool}: {why}")),
            "{log}"
        );
        let answers = broker.listen(&["cloister/n/answer/#"]);
        broker.publish("cloister/n/ask", r#"{"id":"x"}"#);
        assert_eq!(answers.next().topic, "cloister/n/answer/x");
        bridge.stop();

        // Without its own asks it is not online.
        let broker = forbidding("cloister/n/ask", "nothing");
        let folder = TempDir::new().unwrap();
        let mut bridge = in_pool_p(&broker, &folder, version);
        eventually("the bridge tells what is kept from it", || {
            bridge
                .log()
                .contains(&format!("let us listen on cloister/n/ask: {why}"))
                .then_some(())
        });
        assert!(!bridge.log().contains("listening on"), "{}", bridge.log());
        bridge.stop();
    }
}

#[test]
fn an_answer_that_may_not_go_where_it_is_wanted_is_told_and_holds_up_no_other() {
    let broker = forbidding("nothing", "answers/private/#");
    let folder = TempDir::new().unwrap();
    let mut bridge = Bridge::start_online(&broker, folder.path(), "5");
    let answers = broker.listen(&["answers/private/x", "cloister/n/answer/#"]);
    broker.publish(
        "cloister/n/ask",
        r#"{"id":"a","reply_to":"answers/private/x"}"#,
    );
    broker.publish("cloister/n/ask", r#"{"id":"b"}"#);
    assert_eq!(answers.next().topic, "cloister/n/answer/b");
    eventually("the bridge tells why", || {
        let told = "will not take an answer: not authorized";
        bridge.log().contains(told).then_some(())
    });
    bridge.stop();
}

#[test]
fn a_broker_that_takes_one_message_at_a_time_gets_and_gives_all() {
    const ASKS: usize = 100;
    for version in BOTH_VERSIONS {
        // Mosquitto says so to both sides, in version 5 as Receive Maximum.
        let broker = Broker::start_with(
            "allow_anonymous true\nmax_inflight_messages 1\nmax_queued_messages 1000\n",
            &[],
        );
        let folder = TempDir::new().unwrap();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let states = broker.listen(&["cloister/n/state"]);
        let answers = broker.listen(&["cloister/n/answer/+"]);
        // Without an engine none of them is answered: it takes no answer to make room for the next.
        let asks: String = (0..ASKS)
            .map(|n| format!("{{\"id\":\"q{n}\",\"prompt\":\"a\"}}\n"))
            .collect();
        broker.publish_lines("cloister/n/ask", &asks);
        eventually("all are journalled", || {
            let asks = states.next().json()["asks"].clone();
            let unanswered = asks["waiting"].as_u64()? + asks["running"].as_u64()?;
            (unanswered == ASKS as u64).then_some(())
        });
        broker.publish("cloister/n/stop", "");
        for _ in 0..ASKS {
            assert_eq!(answers.next().json()["finish_reason"], "cancelled");
        }
        bridge.stop();
    }
}

#[test]
fn a_broker_of_the_other_version_is_told_with_what_to_do() {
    // What one of 3.1.1 answers to a login of 5, and one of 5 to one of 3.1.1.
    for (version, answer, what) in [
        (
            "5",
            &[0x20, 2, 0, 1][..],
            "give the other with --mqtt-version",
        ),
        ("5", &[0x20, 3, 0, 0x84, 0], "give --mqtt-version 3.1.1"),
        ("3.1.1", &[0x20, 2, 0, 1], "leave --mqtt-version out"),
        ("5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "no connection"),
        ("3.1.1", &[0x30, 5, 0, 1, b'a', b's', b'3'], "no connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                // Whatever becomes of it, the next one comes.
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        });
        let folder = TempDir::new().unwrap();
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |_| {});
        eventually("the bridge tells what is wrong", || {
            bridge.log().contains(what).then_some(())
        });
        println!("{}", bridge.log().lines().last().unwrap());
        assert!(bridge.process.is_running(), "a service keeps trying");
        bridge.stop();
    }
}
