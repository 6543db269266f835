//! Asks that wait: for their turn, too long, or too many.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::parts::{Bridge, Broker, Engine, assert_is_an_answer, eventually, long_ask};

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

/// Where `serve` listens there is something that ends each connection once it has an ask, as `serve` does that ends itself
/// over it, before any word of an answer.
#[test]
fn an_ask_at_which_the_engine_goes_away_each_time_is_told_so_and_the_next_is_answered() {
    let folder = TempDir::new().unwrap();
    let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut first = String::new();
            let _ = BufReader::new(stream).read_line(&mut first);
            let is_ask = first.contains("/v1/chat/completions");
            // Then it listens no more: `serve` takes no place where somebody does.
            if count.fetch_add(usize::from(is_ask), Ordering::SeqCst) + usize::from(is_ask) == 5 {
                break;
            }
        }
    });
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/#"]);
    broker.publish("cloister/n/ask", r#"{"id":"bomb","prompt":"Hello"}"#);
    let told = heard.next_on("cloister/n/answer/bomb");
    assert_eq!(told.error_code(), "internal");
    assert_eq!(asked.load(Ordering::SeqCst), 5);

    let _engine = Engine::start(folder.path());
    broker.publish(
        "cloister/n/ask",
        r#"{"id":"next","prompt":"Hello","max_tokens":2}"#,
    );
    assert_is_an_answer(&heard.next_on("cloister/n/answer/next").json());
}
