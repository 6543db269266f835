//! The broker that `up` starts, as the house reaches it, by TLS and with its login, and as the machine's own programs do:
//! no further than they may.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cloister_tests::process::{Process, own_address};
use cloister_tests::up::{Up, ask_over_mqtt, failure};
use serde_json::{Value, json};

/// What neither the house nor a program of the machine may say.
const NOT_ITS_OWN: &str = "zigbee2mqtt/frontdoor/set";

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

    // What the house may not say itself, the box does not say for it either.
    let ask = json!({"id": "2", "prompt": "Hi.", "reply_to": NOT_ITS_OWN}).to_string();
    let to_others = [
        "-W",
        "30",
        "-t",
        "cloister/test/ask",
        "-e",
        "cloister/test/answer/2",
    ];
    let refused = client(
        "mosquitto_rr",
        port,
        &certificate,
        &[&house[..], &to_others, &["-m", &ask]].concat(),
    );
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["error"]["code"], "bad_request", "{refused}");

    // Whoever takes all connections of the house, takes none of the bridge's.
    let place = (own_address(), port as u16);
    let mut many: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(place).unwrap())
        .collect();
    let closed = many[299].read(&mut [0]);
    assert!(matches!(closed, Ok(0) | Err(_)), "one too many is closed");
    let answer = up.ask_over_mqtt(&json!({"id": "3", "prompt": "Hi.", "max_tokens": 4}));
    assert!(answer["text"].is_string(), "{answer}");
    drop(many);

    // By the name that the bridge might have, whoever connects cuts nobody off: were it the bridge's, its last will would
    // say so before the answer comes.
    let mut listener = Process::spawn(
        Command::new("mosquitto_sub")
            .args(["-p", &up.broker_port, "-v", "-t", "cloister/test/status"])
            .args(["-t", "cloister/test/answer/4"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    );
    let mut lines = BufReader::new(listener.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "cloister/test/status online");
    for _ in 0..3 {
        let name = ["-i", "cloister-test", "-t", "house/door", "-m", "open"];
        let said = [&house[..], &name].concat();
        let said = client("mosquitto_pub", port, &certificate, &said);
        assert!(said.status.success(), "{said:?}");
    }
    let ask = json!({"id": "4", "prompt": "Hi.", "max_tokens": 4});
    ask_over_mqtt("127.0.0.1", &up.broker_port, "4", &ask);
    let told = next();
    assert!(told.starts_with("cloister/test/answer/4 "), "{told}");

    // What the box says the house cannot say for it; what it may say, comes through.
    let publish = |topic: &str| {
        let message = ["-t", topic, "-m", "forged"];
        let said = client(
            "mosquitto_pub",
            port,
            &certificate,
            &[&house[..], &message].concat(),
        );
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    rights_hold(publish);
}

/// What only the bridge may say, and what nobody has allowed; and what others may say.
fn rights_hold(publish: impl Fn(&str) -> String) {
    for topic in [
        "cloister/test/status",
        "cloister/test/state",
        "cloister/test/answer/1",
        "cloister/test/stream/1",
        "cloister/test/default/model",
        "cloister/pool/p/answer/1",
        "cloister/other/ask",
        "homeassistant/device/test/config",
        NOT_ITS_OWN,
        "answers/me",
    ] {
        let said = publish(topic);
        assert!(said.contains("Not authorized"), "{topic}: {said}");
    }
    for topic in [
        "cloister/test/warm-up",
        "cloister/pool/p/cancel",
        "homeassistant/status",
        "homeassistant/sensor/door/config",
        "house/door",
    ] {
        assert_eq!(publish(topic), "", "{topic}");
    }
}

#[test]
fn whoever_is_on_the_machine_asks_hears_answers_and_neither_answers_nor_hears_what_is_asked() {
    let up = Up::start(&[]);
    let own = ["-V", "5", "-q", "1"];
    let publish = |login: &[&str], topic: &str| {
        up.say(&[&own[..], login, &["-t", topic, "-m", "forged"]].concat())
    };
    rights_hold(|topic| publish(&[], topic));

    // The bridge has a login, which nobody else can read, and its own limits.
    let file = up.folder.path().join("bridge-login");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let login = std::fs::read_to_string(file).unwrap();
    let (user, password) = login.trim().split_once(':').unwrap();
    let bridge = ["-u", user, "-P", password];
    assert_eq!(publish(&bridge, "cloister/test/answer/0"), "");
    for topic in [NOT_ITS_OWN, "house/door", "homeassistant/sensor/x/config"] {
        let said = publish(&bridge, topic);
        assert!(said.contains("Not authorized"), "{topic}: {said}");
    }
    let guessed = publish(&["-u", user, "-P", "wrong"], "cloister/test/answer/0");
    assert!(guessed.contains("ot authori"), "{guessed}");

    // Who listens to all hears what the box says, and not what it is asked.
    let mut listener = Process::spawn(
        Command::new("mosquitto_sub")
            .args(["-p", &up.broker_port, "-q", "1", "-v", "-t", "#"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    );
    let lines = BufReader::new(listener.0.stdout.take().unwrap()).lines();
    let mut heard = Vec::new();
    for line in lines.map_while(Result::ok) {
        if line == "house/end forged" {
            break;
        }
        // What is retained comes first: then it listens.
        if line == "cloister/test/status online" {
            let answer = up.ask_over_mqtt(&json!({"id": "1", "prompt": "Hi.", "max_tokens": 4}));
            assert!(answer["text"].is_string(), "{answer}");
            assert_eq!(publish(&[], "house/end"), "");
        }
        heard.push(line);
    }
    let has = |topic: &str| heard.iter().any(|line| line.starts_with(topic));
    for told in [
        "cloister/test/answer/1 ",
        "homeassistant/device/test/config ",
    ] {
        assert!(has(told), "{told} in {heard:?}");
    }
    assert!(!has("cloister/test/ask"), "{heard:?}");
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
