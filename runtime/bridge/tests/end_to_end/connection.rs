//! The bridge and its broker: coming, going, and what stands on the broker meanwhile.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker, Process, eventually};

fn lines_with(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn status_is_online_while_the_bridge_lives_and_offline_after_it_stopped_or_was_killed() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        bridge.stop();
        let status = broker.listen(&["cloister/n/status"]);
        assert_eq!(
            status.next().payload,
            "offline",
            "retained after a clean stop"
        );

        let mut bridge = Bridge::start(&broker, folder.path(), version);
        assert_eq!(status.next().payload, "online");
        bridge.process.kill();
        assert_eq!(status.next().payload, "offline", "the last will");
        let later = broker.listen(&["cloister/n/status"]);
        assert_eq!(later.next().payload, "offline", "retained after kill -9");
    }
}

#[test]
fn without_an_engine_an_ask_waits_until_it_is_late_and_the_state_shows_no_model() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let heard = broker.listen(&["cloister/n/answer/#"]);
        let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
        let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap();
        let ask = format!(
            r#"{{"id":"late","prompt":"hello","deadline":{}}}"#,
            soon.as_secs_f64()
        );
        broker.publish("cloister/n/ask", &ask);
        for _ in 0..2 {
            let told = heard.next_on("cloister/n/answer/late");
            assert_eq!(told.error_code(), "expired");
            // A repeat gets the same.
            broker.publish("cloister/n/ask", &ask);
        }
        let states = broker.listen(&["cloister/n/state"]);
        eventually("the state shows it", || {
            let state = states.next().json();
            assert!(state["model"].is_null());
            (state["asks"]["answered"] == 1 && state["asks"]["waiting"] == 0).then_some(())
        });
        bridge.stop();
    }
}

#[test]
fn a_broker_that_comes_later_is_found_and_the_wait_is_told_once() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let mut broker = Broker::reserve();
        let bridge = Bridge::start(&broker, folder.path(), version);
        eventually("the bridge tells that there is no broker", || {
            (lines_with(&bridge.log(), "no connection to the broker") == 1).then_some(())
        });
        broker.up();
        let status = broker.listen(&["cloister/n/status"]);
        status.wait_online();
        broker.down();
        eventually("the bridge tells that the broker is gone", || {
            (lines_with(&bridge.log(), "no connection to the broker") == 2).then_some(())
        });
        broker.up();
        let status = broker.listen(&["cloister/n/status"]);
        status.wait_online();
        // The broker that is back knows nothing of us: it is told again what we listen to.
        let answers = broker.listen(&["cloister/n/answer/#"]);
        broker.publish("cloister/n/ask", r#"{"id":"back"}"#);
        assert_eq!(answers.next().topic, "cloister/n/answer/back");
        assert_eq!(lines_with(&bridge.log(), "no connection to the broker"), 2);
        assert_eq!(lines_with(&bridge.log(), "connected to the broker"), 2);
    }
}

#[test]
fn the_right_password_opens_and_a_wrong_one_is_told_once_without_being_shown() {
    for version in BOTH_VERSIONS {
        let broker = Broker::start_with_password("box", "open s@same");
        let url = |password: &str| format!("mqtt://box:{password}@127.0.0.1:{}", broker.port);

        let folder = TempDir::new().unwrap();
        let mut bridge = Bridge::start_at(&url("wr0ng-one"), folder.path(), version, |_| {});
        eventually("the bridge tells that it is refused", || {
            bridge.log().contains("refuses the login").then_some(())
        });
        assert!(bridge.process.is_running(), "a service keeps trying");
        assert_eq!(lines_with(&bridge.log(), "refuses the login"), 1);
        assert!(!bridge.log().contains("wr0ng-one"));
        bridge.stop();

        let folder = TempDir::new().unwrap();
        let status = broker.listen(&["cloister/n/status"]);
        let mut bridge = Bridge::start_at(&url("open%20s%40same"), folder.path(), version, |_| {});
        assert_eq!(status.next().payload, "online");
        bridge.stop();
    }
}

#[test]
fn an_ask_sent_while_the_bridge_is_away_is_answered_when_it_is_back() {
    for version in BOTH_VERSIONS {
        for clean_end in [true, false] {
            let folder = TempDir::new().unwrap();
            let broker = Broker::start();
            let mut bridge = Bridge::start_online(&broker, folder.path(), version);
            if clean_end {
                bridge.stop();
            } else {
                bridge.process.kill();
            }
            let answers = broker.listen(&["cloister/n/answer/#"]);
            broker.publish("cloister/n/ask", r#"{"id":"waiting"}"#);
            let mut bridge = Bridge::start(&broker, folder.path(), version);
            assert_eq!(answers.next().topic, "cloister/n/answer/waiting");
            bridge.stop();
        }
    }
}

#[test]
fn a_retained_ask_is_answered_once_and_cleared() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let broker = Broker::start();
        broker.publish_with("cloister/n/ask", br#"{"id":"retained"}"#, &["-r"]);
        let answers = broker.listen(&["cloister/n/answer/#"]);
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        assert_eq!(answers.next().topic, "cloister/n/answer/retained");
        eventually("the bridge clears it", || {
            let asks = broker.listen(&["cloister/n/ask"]);
            broker.publish("cloister/n/ask", r#"{"id":"fresh"}"#);
            (asks.next().json()["id"] == "fresh").then_some(())
        });
        // What it cleared it with was no ask.
        assert_eq!(answers.next().topic, "cloister/n/answer/fresh");
        bridge.stop();
        let later = broker.listen(&["cloister/n/answer/#", "cloister/n/status"]);
        let mut bridge = Bridge::start(&broker, folder.path(), version);
        later.wait_online();
        broker.publish("cloister/n/ask", r#"{"id":"after"}"#);
        // What was answered as the bridge ended may come again.
        let answer = std::iter::repeat_with(|| later.next().topic)
            .find(|topic| topic != "cloister/n/answer/fresh");
        assert_eq!(answer.as_deref(), Some("cloister/n/answer/after"));
        assert_eq!(lines_with(&bridge.log(), "retain"), 0);
        bridge.stop();
    }
}

#[test]
fn systemd_is_told_once_the_bridge_listens() {
    let folder = TempDir::new().unwrap();
    let notify = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    let mut broker = Broker::reserve();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let bridge = Bridge::start_at(&url, folder.path(), "5", |command| {
        command.env("NOTIFY_SOCKET", &notify);
    });
    eventually("the bridge looks for its broker", || {
        bridge.log().contains("no connection").then_some(())
    });
    systemd.set_nonblocking(true).unwrap();
    let mut message = [0; 64];
    assert!(
        systemd.recv(&mut message).is_err(),
        "ready before it listens"
    );
    broker.up();
    let length = eventually("systemd is told", || systemd.recv(&mut message).ok());
    assert_eq!(&message[..length], b"READY=1");
}

#[test]
fn the_state_folder_holds_the_journal_and_nobody_else_may_look_into_it() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let state = folder.path().join("state");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // Made by it, or there before and open to everybody, with a journal of before.
    for (open, closed) in [(None, 0o700), (Some(0o755), 0o750)] {
        if let Some(open) = open {
            for (path, open) in [(&state, open), (&state.join("journal.sqlite"), 0o644)] {
                std::fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
            }
        }
        let mut bridge = Bridge::start_online(&broker, folder.path(), "5");
        let answers = broker.listen(&["cloister/n/answer/#"]);
        broker.publish("cloister/n/ask", "{}");
        answers.next();
        assert_eq!(mode(&state), closed);
        // While it runs there is its log, too.
        let mut files = 0;
        for file in std::fs::read_dir(&state).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_string_lossy();
            assert!(name.starts_with("journal.sqlite"), "{name}");
            assert_eq!(mode(&file) & 0o077, 0, "{name}");
            files += 1;
        }
        assert!(files > 1, "{files}");
        bridge.stop();
    }
}

#[test]
fn wrong_use_is_one_line_and_exit_code_2() {
    for arguments in [
        ["--broker", "mqtts://127.0.0.1"],
        ["--broker", "mqtt://me:secret@127.0.0.1"],
        ["--cafile", "/nonexistent/ca.pem"],
        ["--login-file", "/nonexistent/login"],
        ["--keep-alive", "1"],
        ["--broker", "mqtt://no-such-host.example"],
        ["--broker", "127.0.0.1:1883"],
        ["--node", "a/b"],
        ["--config", "/nonexistent/cloister.toml"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cloister-bridge"))
            .env("CLOISTER_BROKER", "mqtt://127.0.0.1")
            .env("CLOISTER_SOCKET", "/nonexistent/socket")
            .env("CLOISTER_STATE", "/nonexistent/state")
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.starts_with("cloister-bridge: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn the_configuration_file_is_enough() {
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let config = folder.path().join("cloister.toml");
    let text = format!(
        "[bridge]\nbroker = \"mqtt://127.0.0.1:{}\"\nsocket = \"/nonexistent/socket\"\nstate = {:?}\nnode = \"from-file\"\nmqtt-version = \"3.1.1\"\n",
        broker.port,
        folder.path().join("state"),
    );
    std::fs::write(&config, text).unwrap();
    let status = broker.listen(&["cloister/from-file/status"]);
    let _bridge = Process::start(env!("CARGO_BIN_EXE_cloister-bridge"), |command| {
        command.env("CLOISTER_CONFIG", &config);
    });
    assert_eq!(status.next().payload, "online");
}
