//! `./run`: from a clone to a box that answers, and what it says of a mistake.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use cloister_tests::http::Http;
use cloister_tests::parts::{SMOLLM2, program, repository, smollm2};
use cloister_tests::process::{Process, children_of, free_port, lives};
use cloister_tests::serve::{engine_turn, question};
use cloister_tests::up::failure;

/// The script, building into the folder that these tests belong to, with its state in `state`.
fn run(state: &Path) -> Command {
    let mut command = Command::new(repository().join("run"));
    // What cargo tells a test about itself would make the script's own cargo build anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text == "LD_LIBRARY_PATH"
        {
            command.env_remove(&name);
        }
    }
    let programs = program("cloister");
    let target = programs
        .ancestors()
        .nth(2)
        .expect("programs lie in target/<profile>");
    command
        .env("CARGO_TARGET_DIR", target)
        .env("CLOISTER_STATE", state)
        .stdin(Stdio::null());
    command
}

/// A script that has come so far that it says where the page is.
struct Running {
    process: Process,
    page: String,
}

impl Running {
    /// In a process group of its own, as a shell starts it.
    fn start(mut command: Command) -> Self {
        let mut process = Process::spawn(command.process_group(0).stdout(Stdio::piped()));
        let stdout = BufReader::new(process.0.stdout.take().expect("it was asked for"));
        let page = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let page = line.trim().strip_prefix("Page ")?.trim().to_owned();
                Some(page)
            })
            .expect("run says where the page is");
        Self { process, page }
    }

    /// What a terminal does at Ctrl-C.
    fn interrupt(&self) {
        let group = libc::pid_t::try_from(self.process.0.id()).expect("a process id fits");
        // SAFETY: kill takes two numbers; the group is that of our child, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(-group, libc::SIGINT) }, 0);
    }
}

#[test]
fn it_serves_the_demo_model_and_ctrl_c_ends_every_child() {
    let _turn = engine_turn();
    let state = tempfile::tempdir().unwrap();
    let mut command = run(state.path());
    command.args(["--port", "0"]);
    let mut running = Running::start(command);
    let answer = Http::default()
        .post(
            &format!("{}v1/chat/completions", running.page),
            &question("Hi", 2).to_string(),
        )
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let demo = "smollm2-135m-instruct-q4_0";
    assert_eq!(answer.json()["model"], demo, "{}", answer.body);

    let children = children_of(running.process.0.id());
    assert_eq!(children.len(), 3, "{children:?}");
    running.interrupt();
    assert_eq!(running.process.0.wait().unwrap().code(), Some(0));
    for (id, name) in children {
        assert!(!lives(id), "{name} outlived run");
    }
}

#[test]
fn a_second_start_makes_nothing_again_and_takes_the_port_and_the_model_that_it_is_given() {
    let _turn = engine_turn();
    let state = tempfile::tempdir().unwrap();
    let mut first = run(state.path());
    first.args(["--port", "0"]);
    drop(Running::start(first));

    let mut second = run(state.path());
    let port = free_port();
    second
        .args(["--port", &port.to_string(), "--model"])
        .arg(smollm2())
        .env("CARGO_NET_OFFLINE", "true")
        .stderr(Stdio::piped());
    let mut running = Running::start(second);
    assert_eq!(running.page, format!("http://127.0.0.1:{port}/"));
    let models = Http::default()
        .get(&format!("{}v1/models", running.page), &[])
        .unwrap();
    assert_eq!(models.json()["data"][0]["id"], SMOLLM2, "{}", models.body);

    running.interrupt();
    let mut said = String::new();
    let mut stderr = running.process.0.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    for work in [
        "Installing",
        "Fetching",
        "Downloading",
        "Compiling",
        "Converting",
    ] {
        assert!(!said.contains(work), "{said}");
    }
}

#[test]
fn a_mistake_is_one_line_before_anything_is_set_up() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no model").unwrap();
    let (text, folder) = (text.to_str().unwrap(), folder.path().to_str().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    for (arguments, code, named) in [
        (vec!["--fly"], 2, "--fly"),
        (vec!["--port"], 2, "--port"),
        (vec!["--port", "abc"], 2, "abc"),
        (vec!["--port", "70000"], 2, "70000"),
        (vec!["--listen", "8080"], 2, "0.0.0.0:8080"),
        (vec!["--listen", "999.1.1.1:8080"], 2, "999.1.1.1"),
        (vec!["--listen", "0.0.0.0:99999"], 2, "99999"),
        (vec!["--port", &taken], 1, &taken),
        (vec!["--listen", &format!("0.0.0.0:{taken}")], 1, &taken),
        (vec!["--model"], 2, "--model"),
        (vec!["--model", "/nonexistent.gguf"], 1, "/nonexistent.gguf"),
        (vec!["--model", text], 1, "notes.txt"),
        (vec!["--model", folder], 2, "--models"),
        (vec!["--models", text], 2, "--model"),
        (vec!["--model", text, "--models", folder], 1, "notes.txt"),
        (
            vec!["--config", "/nonexistent.toml"],
            1,
            "/nonexistent.toml",
        ),
        (vec!["--check", "--port", "1"], 2, "--check"),
    ] {
        let (got, stderr) = failure(run(state.path()).args(&arguments));
        assert_eq!(got, Some(code), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains(named), "{arguments:?}: {stderr}");
    }
}
