//! A Mosquitto with TLS, client certificates, passwords and WebSocket, with the house's own CA.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::house::{House, Identity};
use crate::parts::{BOTH_VERSIONS, Bridge, Broker, Engine, eventually, python};

/// What a listener is told that wants a certificate of this house and the password of `box`.
fn secured(house: &House, server: &Identity) -> String {
    let passwords = house.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["box", "open s@same"])
        .status();
    assert!(made.unwrap().success());
    format!(
        "allow_anonymous false\npassword_file {}\nrequire_certificate true\n{}",
        passwords.display(),
        tls(house, server)
    )
}

fn tls(house: &House, server: &Identity) -> String {
    format!(
        "cafile {}\ncertfile {}\nkeyfile {}\n",
        house.ca().display(),
        server.certificate.display(),
        server.key.display()
    )
}

/// Starts a bridge that trusts this file's CAs.
fn trusting(url: &str, folder: &Path, version: &str, ca: &Path) -> Bridge {
    Bridge::start_at(url, folder, version, |command| {
        command.arg("--cafile").arg(ca);
    })
}

/// Waits until the bridge tells this of its connection; then it must have told it once and go on.
fn tells(bridge: &mut Bridge, what: &str) {
    eventually("the bridge tells what is wrong", || {
        bridge.log().contains(what).then_some(())
    });
    let lines = |text: &str| {
        bridge
            .log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    };
    assert_eq!(lines("no connection to the broker"), 1, "{}", bridge.log());
    assert!(bridge.process.is_running(), "a service keeps trying");
}

#[test]
fn with_certificates_and_a_login_file_asks_are_answered_over_tls_and_websocket() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let house = House::new();
    let server = house.sign("server", "127.0.0.1");
    let own = house.sign("own", "cloister");
    let login = house.path().join("login");
    std::fs::write(&login, "box:open s@same\n").unwrap();
    for (scheme, transport, protocol) in [
        ("mqtts", "tcp", ""),
        ("wss", "websockets", "protocol websockets\n"),
    ] {
        let listener = format!("{protocol}{}", secured(&house, &server));
        let (broker, port) = Broker::start_with_listener(&listener);
        for version in BOTH_VERSIONS {
            let status = broker.listen(&["cloister/n/status"]);
            let url = format!("{scheme}://127.0.0.1:{port}/");
            let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
                command.arg("--cafile").arg(house.ca());
                command.arg("--certfile").arg(&own.certificate);
                command.arg("--keyfile").arg(&own.key);
                command.arg("--login-file").arg(&login);
            });
            status.wait_online();
            // paho comes the same way.
            let file = |path: &Path| path.to_str().unwrap().to_owned();
            let printed = python(
                "ask.py",
                &[
                    &port.to_string(),
                    version,
                    transport,
                    &file(&house.ca()),
                    &file(&own.certificate),
                    &file(&own.key),
                    "box",
                    "open s@same",
                ],
            );
            let heard: Value = serde_json::from_str(&printed).unwrap();
            // Of version 3.1.1 the id is the same both times: that answer may be the kept one.
            let text = heard["answer"]["text"].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "{heard}");
            bridge.stop();
        }
    }
}

#[test]
fn a_long_prompt_goes_over_websocket_whole() {
    let (broker, port) = Broker::start_with_listener("protocol websockets\nallow_anonymous true\n");
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let status = broker.listen(&["cloister/n/status"]);
        let url = format!("ws://127.0.0.1:{port}/mqtt");
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |_| {});
        status.wait_online();
        let answers = broker.listen(&["cloister/n/answer/#"]);
        broker.publish("cloister/n/ask", vec![b'x'; 1024 * 1024 + 1]);
        let told = answers.next();
        assert_eq!(told.topic, "cloister/n/answer/invalid");
        assert!(told.payload.contains("1048577"), "{}", told.payload);
        bridge.stop();
    }
}

#[test]
fn a_broker_that_cannot_be_trusted_is_told_once_by_what_is_wrong_with_it() {
    let house = House::new();
    let other = House::new();
    let plain = Broker::start();
    let plain_port = plain.port;
    let good = house.sign("good", "127.0.0.1");
    let (_good_broker, good_port) =
        Broker::start_with_listener(&format!("allow_anonymous true\n{}", tls(&house, &good)));
    let expired = house.sign_until("expired", "127.0.0.1", 2021);
    let (_expired_broker, expired_port) =
        Broker::start_with_listener(&format!("allow_anonymous true\n{}", tls(&house, &expired)));
    let elsewhere = house.sign("elsewhere", "broker.lan");
    let (_elsewhere_broker, elsewhere_port) = Broker::start_with_listener(&format!(
        "allow_anonymous true\n{}",
        tls(&house, &elsewhere)
    ));
    let (_strict_broker, strict_port) = Broker::start_with_listener(&secured(&house, &good));
    for version in BOTH_VERSIONS {
        for (scheme, port, ca, what) in [
            (
                "mqtts",
                good_port,
                other.ca(),
                "is signed by none of the CAs in",
            ),
            ("mqtts", expired_port, house.ca(), "has expired"),
            ("mqtts", elsewhere_port, house.ca(), "is for broker.lan"),
            (
                "mqtts",
                strict_port,
                house.ca(),
                "does not take our certificate",
            ),
            ("mqtts", plain_port, house.ca(), "when TLS begins"),
            ("wss", good_port, house.ca(), "WebSocket"),
        ] {
            let folder = TempDir::new().unwrap();
            let url = format!("{scheme}://127.0.0.1:{port}");
            let mut bridge = trusting(&url, folder.path(), version, &ca);
            tells(&mut bridge, what);
            bridge.stop();
        }
    }
}

#[test]
fn what_is_mended_in_the_files_is_taken_without_a_restart() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let (house, other) = (House::new(), House::new());
        let server = house.sign("server", "127.0.0.1");
        let own = house.sign("own", "cloister");
        let (broker, port) = Broker::start_with_listener(&secured(&house, &server));
        let ca = house.path().join("trusted.pem");
        std::fs::copy(other.ca(), &ca).unwrap();
        let login = house.path().join("login");
        std::fs::write(&login, "box:open s@same").unwrap();
        let status = broker.listen(&["cloister/n/status"]);
        let url = format!("mqtts://127.0.0.1:{port}");
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
            command.arg("--cafile").arg(&ca);
            command.arg("--certfile").arg(&own.certificate);
            command.arg("--keyfile").arg(&own.key);
            command.arg("--login-file").arg(&login);
        });
        tells(&mut bridge, "is signed by none of the CAs in");
        std::fs::remove_file(&ca).unwrap();
        eventually("the bridge tells that the file is gone", || {
            bridge.log().contains("cannot read").then_some(())
        });
        std::fs::copy(house.ca(), &ca).unwrap();
        status.wait_online();
        bridge.stop();
    }
}

#[test]
fn files_that_are_of_no_use_are_named_at_the_start() {
    let house = House::new();
    let own = house.sign("own", "cloister");
    let other = house.sign("other", "cloister");
    let text = house.path().join("text");
    std::fs::write(&text, "no PEM\n").unwrap();
    let missing = house.path().join("missing");
    let ca = house.ca();
    for (ca, certificate, key, named) in [
        (&missing, &own.certificate, &own.key, "missing"),
        (
            &text,
            &own.certificate,
            &own.key,
            "text holds no certificate",
        ),
        (&ca, &text, &own.key, "text holds no certificate"),
        (&ca, &own.certificate, &text, "text holds no private key"),
        (&ca, &own.certificate, &other.key, "do not belong together"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cloister-bridge"))
            .args([
                "--broker",
                "mqtts://127.0.0.1:1",
                "--socket",
                "/nonexistent",
            ])
            .args(["--state", "/nonexistent"])
            .arg("--cafile")
            .arg(ca)
            .arg("--certfile")
            .arg(certificate)
            .arg("--keyfile")
            .arg(key)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(named), "{error}");
    }
}
