//! `cloister up`: everything on one machine, and nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;

use cloister_tests::http::Http;
use cloister_tests::parts::smollm2;
use cloister_tests::process::{Process, children_of, free_port, lives, until};
use cloister_tests::serve::{engine_turn, question};
use cloister_tests::up::{Up, command, failure};
use serde_json::json;

#[test]
fn it_answers_over_http_and_over_mqtt() {
    let up = Up::start(&[]);
    let answer = Http::default()
        .post(
            &format!("{}v1/chat/completions", up.page),
            &question("What is the capital of France?", 24).to_string(),
        )
        .unwrap();
    assert!(
        answer.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains("Paris"),
        "{}",
        answer.body
    );
    let answer = up.ask_over_mqtt(
        &json!({"id": "1", "prompt": "What is the capital of France?", "max_tokens": 24, "temperature": 0}),
    );
    assert_eq!(answer["id"], "1");
    assert!(
        !answer["text"].as_str().unwrap().trim().is_empty(),
        "{answer}"
    );
}

#[test]
fn each_signal_that_asks_for_the_end_ends_every_child() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut up = Up::start(&[]);
        let children = children_of(up.process.0.id());
        let mut names: Vec<&str> = children.iter().map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["cloister", "cloister-bridge", "mosquitto"]);
        up.process.signal(signal);
        assert_eq!(
            up.process.0.wait().unwrap().code(),
            Some(0),
            "after signal {signal}"
        );
        for (id, name) in children {
            assert!(!lives(id), "{name} outlived up after signal {signal}");
        }
    }
}

#[test]
fn killed_it_takes_every_child_with_it() {
    let mut up = Up::start(&[]);
    let children = children_of(up.process.0.id());
    assert_eq!(children.len(), 3, "{children:?}");
    up.process.signal(libc::SIGKILL);
    up.process.0.wait().unwrap();
    for (id, name) in children {
        until(&format!("{name} is gone"), || (!lives(id)).then_some(()));
    }
}

#[test]
fn a_child_that_dies_is_named_and_the_others_end() {
    for victim in ["mosquitto", "cloister", "cloister-bridge"] {
        let turn = engine_turn();
        let folder = tempfile::tempdir().unwrap();
        let mut up = Process::spawn(
            command(folder.path())
                .args(["--port", "0"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let mut line = [0; 1];
        up.0.stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .expect("up gets ready");
        let children = children_of(up.0.id());
        let (id, _) = children
            .iter()
            .find(|(_, name)| name == victim)
            .expect("the child runs");
        // SAFETY: kill takes two numbers; `up` has not reaped its child before it was killed.
        unsafe { libc::kill(libc::pid_t::try_from(*id).unwrap(), libc::SIGKILL) };
        let stderr = cloister_tests::up::rest_of(up.0.stderr.take().unwrap());
        assert_eq!(up.0.wait().unwrap().code(), Some(1));
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.contains(victim) && last.contains("signal: 9"),
            "{stderr}"
        );
        for (id, name) in children {
            assert!(!lives(id), "{name} outlived up");
        }
        drop(turn);
    }
}

#[test]
fn a_port_in_use_is_one_line_that_names_it_and_says_what_to_do() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = failure(command(folder.path()).args(["--port", &port]));
    assert_eq!(code, Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&port) && stderr.contains("--port"),
        "{stderr}"
    );
}

#[test]
fn beside_another_broker_its_own_has_the_next_port() {
    // Debian's package starts one; whoever it is, the usual port is not free then.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 1883));
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 1884)).is_ok()
        && TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 1884)).is_ok();
    let up = Up::start(&[]);
    assert_ne!(up.broker_port, "1883");
    if free {
        assert_eq!(up.broker_port, "1884");
    }
}

#[test]
fn a_broker_that_cannot_be_one_is_told_before_a_model_is_loaded() {
    for (broker, named) in [
        ("mqtt://", "no host"),
        ("mqtt://127.0.0.1:99999", "99999"),
        ("127.0.0.1", "mqtt://["),
        ("mqtt://nowhere.invalid", "nowhere.invalid"),
        ("mqtts://127.0.0.1", "--cafile"),
        ("mqtt://u:secret@127.0.0.1", "in a command line"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (code, stderr) =
            failure(command(folder.path()).args(["--port", "0", "--broker", broker]));
        assert_eq!(code, Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains(named) && !stderr.contains("secret"),
            "{stderr}"
        );
    }
}

#[test]
fn the_same_state_folder_is_not_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let _turn = engine_turn();
    let mut first = Process::spawn(
        command(folder.path())
            .args(["--port", "0"])
            .stdout(Stdio::piped()),
    );
    first
        .0
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0])
        .expect("up gets ready");
    let (code, stderr) = failure(command(folder.path()).args(["--port", "0"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--state"), "{stderr}");
    assert!(first.runs());
}

#[test]
fn a_model_that_is_none_ends_everything_with_a_reason() {
    let _turn = engine_turn();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-model.gguf");
    std::fs::write(&file, "not a model").unwrap();
    let mut up = std::process::Command::new(cloister_tests::parts::program("cloister"));
    up.args(["up", "--port", "0", "--model"])
        .arg(&file)
        .arg("--state")
        .arg(folder.path().join("state"));
    let (code, stderr) = failure(&mut up);
    assert_eq!(code, Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or("");
    assert!(last.contains("no-model.gguf"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn without_a_model_it_is_used_wrongly() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = std::process::Command::new(cloister_tests::parts::program("cloister"));
    let (code, stderr) = failure(up.arg("up").arg("--state").arg(folder.path()));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--model"), "{stderr}");
}

#[test]
fn what_the_configuration_says_of_the_services_is_so_without_any_option() {
    let up = Up::start_configured(|folder| {
        let path = |name: &str| folder.join(name).display().to_string();
        format!(
            "[up]\nport = 0\nstate = {:?}\n\
             [serve]\nmodel = {:?}\nlisten = \"127.0.0.2:1\"\nsocket = {:?}\nctx = 256\n\
             [bridge]\nnode = \"test\"\nmqtt-version = \"3.1.1\"\n",
            path("state"),
            smollm2().display().to_string(),
            path("own.sock"),
        )
    });
    assert!(up.page.starts_with("http://127.0.0.2:"), "{}", up.page);
    let ask = |max_tokens| {
        Http::default()
            .post(
                &format!("{}v1/chat/completions", up.page),
                &question("Hi", max_tokens).to_string(),
            )
            .unwrap()
    };
    assert_eq!(ask(2).status, 200);
    assert_eq!(ask(256).status, 400, "the context is that of the file");
    assert!(up.folder.path().join("own.sock").exists());
    let answer = up.ask_over_mqtt(&json!({"id": "1", "prompt": "Hi", "max_tokens": 2}));
    assert!(answer["text"].is_string(), "{answer}");
}

#[test]
fn opened_to_the_network_it_prints_addresses_that_answer_and_how_one_gets_in() {
    let _turn = engine_turn();
    let folder = tempfile::tempdir().unwrap();
    let mut up = std::process::Command::new(cloister_tests::parts::program("cloister"));
    up.args(["up", "--lan", "--port", "0", "--tls", "false", "--model"])
        .arg(smollm2())
        .arg("--state")
        .arg(folder.path());
    let mut up = Process::spawn(up.stdin(Stdio::null()).stdout(Stdio::piped()));
    let printed: Vec<String> = BufReader::new(up.0.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.contains("Ctrl-C"))
        .collect();
    let pages: Vec<&str> = printed
        .iter()
        .flat_map(|line| line.split_whitespace())
        .filter(|word| word.starts_with("http://"))
        .collect();
    assert!(!pages.is_empty(), "{printed:?}");
    for page in pages {
        let answer = Http::default().get(page, &[]).unwrap();
        assert_eq!(answer.status, 200, "{page}");
    }
    let printed = printed.concat();
    assert!(printed.contains("Nothing is encrypted"), "{printed}");
    assert!(
        printed.contains("Pair a browser with the code "),
        "{printed}"
    );
}

#[test]
fn unless_opened_it_listens_on_one_address_of_loopback_alone() {
    let up = Up::start(&[]);
    let port = up.page.trim_end_matches('/').rsplit(':').next().unwrap();
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
    assert!(TcpStream::connect(format!("127.0.0.2:{port}")).is_err());
}

#[test]
fn a_table_or_a_key_that_nobody_reads_is_wrong_use_and_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cloister.toml");
    for (text, named) in [
        ("[serv]\nslots = 2\n", "[serv]"),
        ("slots = 2\n", "\"slots\""),
        ("[up]\nprot = 8080\n", "`prot`"),
        ("[serve]\nlisen = \"127.0.0.1:1\"\n", "`lisen`"),
        ("[bridge]\nbrocker = \"mqtt://127.0.0.1\"\n", "`brocker`"),
    ] {
        std::fs::write(&config, text).unwrap();
        let (code, stderr) = failure(command(folder.path()).arg("--config").arg(&config));
        assert_eq!(code, Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains(named) && stderr.contains("cloister.toml"),
            "{stderr}"
        );
    }
}

#[test]
fn with_a_broker_that_is_down_the_page_still_answers() {
    let up = Up::start(&["--broker", &format!("mqtt://127.0.0.1:{}", free_port())]);
    let names: Vec<String> = children_of(up.process.0.id())
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert!(!names.contains(&"mosquitto".to_owned()), "{names:?}");
    let answer = Http::default()
        .post(
            &format!("{}v1/chat/completions", up.page),
            &question("Hi", 2).to_string(),
        )
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}
