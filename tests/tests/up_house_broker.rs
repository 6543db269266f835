//! The broker that `up` starts, as the house reaches it: by TLS, with its login, and no further than it may.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use cloister_tests::process::own_address;
use cloister_tests::up::{Up, failure};
use serde_json::{Value, json};

/// A client of the house with these further arguments.
fn client(program: &str, port: u64, certificate: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(["-h", &own_address().to_string(), "-p", &port.to_string()])
        .args(["-V", "5", "-q", "1", "--cafile"])
        .arg(certificate)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("mosquitto-clients are installed")
}

#[test]
fn the_house_asks_with_its_login_and_answers_in_nobodys_name() {
    let up = Up::start(&["--lan-broker"]);
    let state = up.folder.path();
    let certificate = state.join("tls/cert.pem");
    let port = up.endpoints["lan_broker_port"].as_u64().unwrap();
    let login = std::fs::read_to_string(state.join("mqtt-login")).unwrap();
    let (user, password) = login.trim().split_once(':').unwrap();
    let house = ["-u", user, "-P", password];

    let ask = json!({"id": "1", "prompt": "Name a bird.", "max_tokens": 8}).to_string();
    let asks = [
        "-W",
        "30",
        "-t",
        "cloister/test/ask",
        "-e",
        "cloister/test/answer/1",
        "-m",
        &ask,
    ];
    let answer = client(
        "mosquitto_rr",
        port,
        &certificate,
        &[&house[..], &asks].concat(),
    );
    let answer: Value = serde_json::from_slice(&answer.stdout)
        .unwrap_or_else(|_| panic!("the answer was {answer:?}"));
    assert!(answer["text"].is_string(), "{answer}");

    for stranger in [
        &[][..],
        &["-u", user],
        &["-u", user, "-P", "wrong"],
        &["-u", "other", "-P", password],
    ] {
        let refused = client(
            "mosquitto_rr",
            port,
            &certificate,
            &[stranger, &asks].concat(),
        );
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{refused:?}"
        );
    }
    // Nothing without TLS by the box's own certificate.
    let plain = Command::new("mosquitto_pub")
        .args(["-h", &own_address().to_string(), "-p", &port.to_string()])
        .args(house)
        .args(["-t", "cloister/test/ask", "-m", "Hi"])
        .output()
        .unwrap();
    assert!(!plain.status.success(), "{plain:?}");

    // What the box says the house cannot say for it; what it may say, comes through.
    let forged = [
        "cloister/test/status",
        "cloister/test/answer/1",
        "cloister/other/ask",
    ];
    let publish = |topic: &str| {
        let message = ["-r", "-t", topic, "-m", "forged"];
        client(
            "mosquitto_pub",
            port,
            &certificate,
            &[&house[..], &message].concat(),
        )
    };
    for topic in forged {
        publish(topic);
    }
    assert!(publish("house/door").status.success());
    let kept = Command::new("mosquitto_sub")
        .args([
            "-p",
            &up.broker_port,
            "-t",
            "#",
            "-v",
            "--retained-only",
            "-W",
            "2",
        ])
        .output()
        .unwrap();
    let kept = String::from_utf8_lossy(&kept.stdout).into_owned();
    assert!(kept.contains("house/door forged"), "{kept}");
    assert_eq!(kept.matches("forged").count(), 1, "{kept}");
    assert!(kept.contains("cloister/test/status online"), "{kept}");
}

#[test]
fn a_broker_of_ones_own_has_its_own_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = cloister_tests::up::command(folder.path());
    up.args([
        "--port",
        "0",
        "--lan-broker",
        "--broker",
        "mqtt://127.0.0.1",
    ]);
    let (code, said) = failure(&mut up);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("lan-broker"), "{said}");
}
