//! The real parts as child processes. Each ends when its guard is dropped, and with the thread that
//! started it: a failing test leaves nothing behind.

mod boxes;
mod broker;
mod process;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use boxes::{BOTH_VERSIONS, Bridge, Engine};
pub use broker::{Broker, Cable, Heard, Listener};
pub use process::Process;

/// How long anything may take before a test gives up on it: an answer that fills the context, now and then.
/// No figure is judged by it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program of the workspace, from the same build.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_cloister-bridge")).with_file_name(name);
    assert!(
        path.exists(),
        "build it first: cargo build --release --workspace --bins --examples"
    );
    path
}

/// A file that `tests/fetch` brings.
fn cached(name: &str) -> PathBuf {
    let cache = std::env::var_os("CLOISTER_CACHE")
        .map_or_else(|| repository().join(".cloister/cache"), PathBuf::from);
    let path = cache.join(name);
    assert!(path.exists(), "fetch it first: tests/fetch");
    path
}

/// SmolLM2-135M-Instruct.
pub fn smollm2() -> PathBuf {
    cached("smollm2-135m-instruct-q4_1.gguf")
}

/// A tiny model in `folder` with R1's vocabulary and template that thinks "Hmm" and says "Yes".
pub fn tiny_r1(folder: &Path) -> PathBuf {
    let out = folder.join("tiny-r1.gguf");
    let script = ["Ċ", "Hmm", "</think>", "ĊĊ", "Yes", "<｜end▁of▁sentence｜>"];
    let made = Command::new(program("examples/tiny_r1"))
        .arg(cached("r1-distill-qwen-7b-header.gguf"))
        .arg(&out)
        .args(script)
        .status();
    assert!(made.unwrap().success());
    out
}

/// An example of the documentation.
pub fn documented(name: &str) -> PathBuf {
    repository().join("docs/examples").join(name)
}

/// A script, of this folder unless its path is absolute, with the Python that has paho-mqtt.
pub fn python_command(script: &str) -> Command {
    let venv = std::env::var_os("CLOISTER_VENV")
        .map_or_else(|| repository().join(".cloister/venv"), PathBuf::from);
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(venv.join("bin/python"))
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/end_to_end")
                .join(script),
        )
        .stdin(Stdio::null());
    command
}

/// Runs such a script; returns what it printed.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = python_command(script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script} failed");
    String::from_utf8(output.stdout).unwrap()
}

/// An ask whose greedy answer is not over after its first piece.
pub fn long_ask(id: &str) -> String {
    json!({
        "id": id,
        "prompt": "Write a very long story about a monastery garden.",
        "stream": true,
        "max_tokens": 80,
        "temperature": 0,
    })
    .to_string()
}

pub fn assert_is_an_answer(answer: &Value) {
    assert!(!answer["text"].as_str().unwrap().is_empty(), "{answer}");
    assert!(matches!(
        answer["finish_reason"].as_str(),
        Some("stop" | "length")
    ));
    assert!(
        answer["usage"]["completion_tokens"].as_u64().unwrap() > 0,
        "{answer}"
    );
    assert!(
        answer["timings"]["predicted_per_second"].as_f64().unwrap() > 0.0,
        "{answer}"
    );
    assert!(answer.get("error").is_none());
}
