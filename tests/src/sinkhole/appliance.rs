//! A day of the whole appliance: what it goes through while its packets are watched.
//!
//! In: the box's namespace, and maybe a leak to be planted there. Out: nothing; it panics where the appliance does not
//! do what it is asked. The broker and all clients are outside.

use std::io::{BufRead, BufReader};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::namespaces::Inside;
use super::{BOX, BROKER_PORT, ELSEWHERE, HOUSE_PORT, OUTSIDE, PAGE_PORT};
use crate::page::Page;
use crate::parts::{SMOLLM2, program, smollm2};
use crate::process::{Process, until};
use crate::{python, up};

/// What is planted to see that it is seen.
#[derive(Clone, Copy, Debug)]
pub enum Leak {
    /// A name is looked up.
    Dns,
    /// A datagram is sent to an address.
    Udp,
    /// A connection to an address is tried.
    Tcp,
}

impl Leak {
    /// Of the word for it.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "dns" => Some(Self::Dns),
            "udp" => Some(Self::Udp),
            "tcp" => Some(Self::Tcp),
            _ => None,
        }
    }

    /// Does it, in whichever network the caller lives. What comes of it does not matter.
    fn spring(self) {
        match self {
            Self::Dns => drop(("leak.example", 443).to_socket_addrs()),
            Self::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket can be had");
                let _ = socket.send_to(b"leak", (ELSEWHERE, 9));
            }
            Self::Tcp => drop(TcpStream::connect_timeout(
                &(ELSEWHERE, 443).into(),
                Duration::from_secs(1),
            )),
        }
    }
}

/// From the start to the end.
pub fn live(inside: &Inside, leak: Option<Leak>) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = broker(folder.path());
    models(folder.path());
    told("the box starts");
    let elsewhere = format!("mqtt://{OUTSIDE}:{BROKER_PORT}");
    let up = start(inside, folder.path(), &["--broker", &elsewhere]);
    let page = format!("https://{BOX}:{PAGE_PORT}");
    let state = folder.path().join("state");
    let mut panel = Command::new(program("cloister-panel"));
    panel.arg("--socket").arg(state.join("cloister.sock"));
    panel.stdin(Stdio::null()).stdout(Stdio::null());
    let mut panel = inside.run(move || Process::spawn(&mut panel));
    let key = owner(inside, &state, &["keys", "add", "a program"]);
    let certificate = state.join("tls/cert.pem");
    let certificate = certificate.to_str().expect("a path of letters").to_owned();
    let ask_as_a_program = |model: &str| {
        let said = python::run("ask_with_key.py", &[&page, &key, &certificate, model]);
        said.trim().to_owned()
    };

    told("asked by a program");
    assert_eq!(ask_as_a_program(SMOLLM2), "200 200 200");

    told(
        "a model that is none, one that is not there and would have to be fetched, and one that is",
    );
    assert_eq!(ask_as_a_program("unreadable"), "500 500 500");
    let strange = ask_as_a_program("llama3.2");
    assert!(strange.starts_with("404 404 4"), "{strange}");
    assert_eq!(ask_as_a_program(SMOLLM2), "200 200 200");

    told("asked in a browser, which is paired first");
    {
        let code = owner(inside, &state, &["pair"]);
        let page = Page::pair_at(&page, code.lines().next().expect("a code"));
        page.ask("Name a flower.");
        assert!(!page.answer_when("done").is_empty());
    }

    told("asked over MQTT");
    let answer = ask_over_mqtt("1");
    assert!(answer["text"].is_string(), "{answer}");

    if let Some(leak) = leak {
        told(&format!("a leak is planted: {leak:?}"));
        inside.run(move || leak.spring());
    }

    told("the broker is gone, and comes back");
    broker.end();
    assert_eq!(ask_as_a_program(SMOLLM2), "200 200 200");
    // Long enough for several tries.
    std::thread::sleep(Duration::from_secs(3));
    broker = self::broker(folder.path());
    wait_for_the_bridge();
    let answer = ask_over_mqtt("2");
    assert!(answer["text"].is_string(), "{answer}");

    assert!(panel.runs(), "the panel has ended");
    told("the box is stopped");
    end(up);
    drop(broker);

    if leak.is_none() {
        told("the box has a broker of its own, which the house asks");
        let up = start(inside, folder.path(), &["--lan-broker"]);
        let answer = ask_as_the_house(&state);
        assert!(answer["text"].is_string(), "{answer}");
        told("the box is stopped");
        end(up);
    }
}

fn end(mut up: Process) {
    up.signal(libc::SIGTERM);
    assert_eq!(up.0.wait().expect("it can be waited for").code(), Some(0));
    // What a process leaves to the kernel to send is sent by now or never.
    std::thread::sleep(Duration::from_secs(1));
}

/// `cloister` with these words, as the owner types it on the box: what it prints.
fn owner(inside: &Inside, state: &Path, words: &[&str]) -> String {
    let mut command = Command::new(program("cloister"));
    command.args(words).arg("--state").arg(state);
    let output = inside.run(move || command.output().expect("the program can be started"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn told(what: &str) {
    println!("== {what}");
}

/// A broker outside, as a house may have one.
fn broker(folder: &Path) -> Process {
    let config = folder.join("mosquitto.conf");
    let text = format!(
        "listener {BROKER_PORT} {OUTSIDE}\nallow_anonymous true\nuser root\nlog_type none\n"
    );
    std::fs::write(&config, text).expect("the folder can be written");
    let usual = Path::new("/usr/sbin/mosquitto");
    let program = if usual.exists() {
        usual
    } else {
        Path::new("mosquitto")
    };
    let broker = Process::spawn(
        Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            // It warns that it is root, which it is in a network of its own alone.
            .stderr(Stdio::null()),
    );
    until("the broker listens", || {
        TcpStream::connect((OUTSIDE, BROKER_PORT)).ok()
    });
    broker
}

/// SmolLM2, and a file that is no model.
fn models(folder: &Path) {
    let models = folder.join("models");
    std::fs::create_dir(&models).expect("the folder can be written");
    let file: PathBuf = models.join(format!("{SMOLLM2}.gguf"));
    std::os::unix::fs::symlink(smollm2(), file).expect("the folder can be written");
    std::fs::write(models.join("unreadable.gguf"), "no model").expect("the folder can be written");
}

/// `cloister up` inside, with the models of this folder, and with what it is told of its broker.
fn start(inside: &Inside, folder: &Path, broker: &[&str]) -> Process {
    let mut command = Command::new(program("cloister"));
    command
        .args(["up", "--json", "--node", "test", "--listen"])
        .arg(format!("{BOX}:{PAGE_PORT}"))
        .arg("--models")
        .arg(folder.join("models"))
        .arg("--state")
        .arg(folder.join("state"))
        .args(broker)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    // SAFETY: prctl is async-signal-safe, as what runs between fork and exec must be.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
    let mut up = inside.run(move || Process::spawn(&mut command));
    let mut line = String::new();
    let stdout = up.0.stdout.take().expect("it was asked for");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("up prints text");
    assert!(line.starts_with('{'), "up printed {line:?}");
    up
}

/// A new broker knows nobody; the bridge tells it when it is there again.
fn wait_for_the_bridge() {
    let port = BROKER_PORT.to_string();
    let said = Command::new("mosquitto_sub")
        .args(["-h", &OUTSIDE.to_string(), "-p", &port, "-W", "60"])
        .args(["-t", "cloister/test/status", "-C", "1"])
        .output()
        .expect("mosquitto-clients are installed");
    assert_eq!(said.stdout, b"online\n", "{said:?}");
}

fn ask_over_mqtt(id: &str) -> Value {
    let ask = json!({"id": id, "prompt": "Name a bird.", "max_tokens": 12});
    up::ask_over_mqtt(&OUTSIDE.to_string(), &BROKER_PORT.to_string(), id, &ask)
}

/// Asks the box's own broker, as its README says.
fn ask_as_the_house(state: &Path) -> Value {
    let login = std::fs::read_to_string(state.join("mqtt-login")).expect("there is a login");
    let (user, password) = login.trim().split_once(':').expect("it is a login");
    let ask = json!({"id": "3", "prompt": "Name a bird.", "max_tokens": 12}).to_string();
    let answer = Command::new("mosquitto_rr")
        .args([
            "-h",
            &BOX.to_string(),
            "-p",
            &HOUSE_PORT.to_string(),
            "-V",
            "5",
            "-q",
            "1",
        ])
        .arg("--cafile")
        .arg(state.join("tls/cert.pem"))
        .args(["-u", user, "-P", password, "-W", "60"])
        .args([
            "-t",
            "cloister/test/ask",
            "-e",
            "cloister/test/answer/3",
            "-m",
            &ask,
        ])
        .output()
        .expect("mosquitto-clients are installed");
    serde_json::from_slice(&answer.stdout).unwrap_or_else(|_| panic!("the answer was {answer:?}"))
}
