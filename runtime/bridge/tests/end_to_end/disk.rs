//! A disk that is full: who asks is told, nothing that was taken is lost, and the way is free again after it.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::parts::{Bridge, Broker, Process, eventually};

/// A bridge on whose files a limit can be set: at it, writing fails as on a full disk. Its log is no file.
fn limitable(broker: &Broker, folder: &Path) -> (Process, Arc<Mutex<String>>) {
    let (mut read, write) = std::io::pipe().unwrap();
    let process = Process::start("env", |command| {
        command
            .arg("--ignore-signal=XFSZ")
            .arg(env!("CARGO_BIN_EXE_cloister-bridge"))
            .args(["--broker", &format!("mqtt://127.0.0.1:{}", broker.port)])
            .args(["--node", "n", "--socket", "/nonexistent/socket"])
            .arg("--state")
            .arg(folder.join("state"))
            .stderr(write);
    });
    let log = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = read.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]);
            told.lock().unwrap().push_str(&text);
        }
    });
    (process, log)
}

fn limit(process: &Process, bytes: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &process.id().to_string()])
        .arg(format!("--fsize={bytes}:"))
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn while_the_disk_is_full_each_asker_is_told_and_after_it_all_is_as_before() {
    const ASKS: usize = 100;
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let status = broker.listen(&["cloister/n/status"]);
    let (bridge, log) = limitable(&broker, folder.path());
    status.wait_online();
    let answers = broker.listen(&["cloister/n/answer/+"]);
    let states = broker.listen(&["cloister/n/state"]);
    broker.publish("cloister/n/ask", r#"{"id":"before","prompt":"a"}"#);
    eventually("it is journalled", || {
        let asks = states.next().json()["asks"].clone();
        (asks["waiting"].as_u64()? + asks["running"].as_u64()? == 1).then_some(())
    });

    limit(&bridge, "0");
    // More than the broker sends at once: what cannot be kept is acknowledged all the same.
    for n in 0..ASKS {
        broker.publish("cloister/n/cancel", format!("never-asked-{n}"));
    }
    let asks: String = (0..ASKS)
        .map(|n| format!("{{\"id\":\"full{n}\",\"prompt\":\"a\"}}\n"))
        .collect();
    broker.publish_lines("cloister/n/ask", &asks);
    for _ in 0..ASKS {
        let told = answers.next();
        assert!(told.topic.starts_with("cloister/n/answer/full"), "{told:?}");
        assert_eq!(told.error_code(), "internal");
        assert!(told.payload.contains("disk"), "{told:?}");
    }
    // Cancelled and written down as soon as it can be.
    broker.publish("cloister/n/cancel", "before");

    limit(&bridge, "unlimited");
    broker.publish("cloister/n/ask", r#"{"id":"after","prompt":"a"}"#);
    broker.publish("cloister/n/stop", "");
    let mut ended: Vec<_> = (0..2).map(|_| answers.next().topic).collect();
    ended.sort();
    assert_eq!(
        ended,
        ["cloister/n/answer/after", "cloister/n/answer/before"]
    );
    for told in [
        "the journal cannot be written",
        "the journal can be written again",
    ] {
        eventually("the log tells it once", || {
            let log = log.lock().unwrap();
            (log.lines().filter(|line| line.contains(told)).count() == 1).then_some(())
        });
    }
}

#[test]
fn what_was_taken_before_the_disk_was_full_is_there_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let status = broker.listen(&["cloister/n/status"]);
    let (mut bridge, _) = limitable(&broker, folder.path());
    status.wait_online();
    let answers = broker.listen(&["cloister/n/answer/+"]);
    broker.publish("cloister/n/ask", r#"{"id":"before","prompt":"a"}"#);
    let states = broker.listen(&["cloister/n/state"]);
    eventually("it is journalled", || {
        let asks = states.next().json()["asks"].clone();
        (asks["waiting"].as_u64()? + asks["running"].as_u64()? == 1).then_some(())
    });
    limit(&bridge, "0");
    broker.publish("cloister/n/ask", r#"{"id":"full","prompt":"a"}"#);
    assert_eq!(answers.next().topic, "cloister/n/answer/full");
    bridge.kill();
    let mut bridge = Bridge::start_online(&broker, folder.path(), "5");
    broker.publish("cloister/n/stop", "");
    let ended = answers.next();
    assert_eq!(ended.topic, "cloister/n/answer/before");
    assert_eq!(ended.json()["finish_reason"], "cancelled");
    bridge.stop();
}
