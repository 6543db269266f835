//! `cloister serve` on a free port and a socket of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, Events, Http};
use crate::parts::{program, smollm2};
use crate::process::{Process, free_port, own_address, until};
use crate::traces::{files_below, holds, open_files};

/// Two engines on the same cores wait for each other most of the time.
static ONE_ENGINE: Mutex<()> = Mutex::new(());

/// Waits until no other test of this program runs an engine.
pub fn engine_turn() -> MutexGuard<'static, ()> {
    ONE_ENGINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running `cloister serve`; ended when dropped.
pub struct Serve {
    process: Process,
    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub url: String,
    folder: TempDir,
    /// Its client.
    pub http: Http,
    _turn: MutexGuard<'static, ()>,
}

impl Serve {
    /// Serves `model`, a file or a folder of files, with these further options; returns when it is ready.
    pub fn start(model: &Path, options: &[&str]) -> Self {
        Self::start_by(Command::new(program("cloister")), model, options)
    }

    /// As [`Serve::start`], by a command that `cloister`'s arguments go behind.
    pub fn start_by(command: Command, model: &Path, options: &[&str]) -> Self {
        let turn = engine_turn();
        let folder = tempfile::tempdir().expect("a folder can be made");
        let port = free_port();
        let process = spawn(command, model, port, folder.path(), options);
        let mut serve = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            folder,
            http: Http::default(),
            _turn: turn,
        };
        serve.wait_until_ready();
        serve
    }

    /// Serves SmolLM2 to the network, with these further options. The address is one of this machine's that is not
    /// loopback's; by loopback it is [`Serve::url`].
    pub fn start_open(options: &[&str]) -> (Self, String) {
        Self::start_open_with(&smollm2(), options)
    }

    /// The same with `model`, a file or a folder of files.
    pub fn start_open_with(model: &Path, options: &[&str]) -> (Self, String) {
        let options = [&["--listen", "0.0.0.0:0"], options].concat();
        let serve = Self::start(model, &options);
        let (_, port) = serve.url.rsplit_once(':').expect("the URL has a port");
        let open = format!("{}:{port}", own_address());
        (serve, open)
    }

    /// Serves SmolLM2 with a folder of its own for a home, [`Serve::state`], and says all that it can in `log` there:
    /// for tests that search what it leaves.
    pub fn start_at_home() -> Self {
        let turn = engine_turn();
        let home = tempfile::tempdir().expect("a folder can be made");
        let port = free_port();
        let file = |name: &str| File::create(home.path().join(name)).expect("a file can be made");
        let process = Process::spawn(
            Command::new(program("cloister"))
                .args(["serve", "--ctx", "512", "--listen"])
                .arg(format!("127.0.0.1:{port}"))
                .arg("--model")
                .arg(smollm2())
                .current_dir(home.path())
                .env("HOME", home.path())
                .env("TMPDIR", home.path())
                .env_remove("XDG_STATE_HOME")
                .env("CLOISTER_LOG", "trace")
                .stdin(Stdio::null())
                .stdout(file("out"))
                .stderr(file("log")),
        );
        let mut serve = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            folder: home,
            http: Http::default(),
            _turn: turn,
        };
        serve.wait_until_ready();
        serve
    }

    /// All files that it has made below its home or holds open; its log is among them, and says something.
    pub fn left(&self) -> Vec<PathBuf> {
        let left = [files_below(self.state()), open_files(self.id())].concat();
        let log = self.state().join("log");
        assert!(left.contains(&log) && holds(&log, "is ready"));
        left
    }

    /// Its state folder.
    pub fn state(&self) -> &Path {
        self.folder.path()
    }

    /// `cloister` with these words, for its state folder: what it prints.
    pub fn command(&self, words: &[&str]) -> String {
        let output = Command::new(program("cloister"))
            .args(words)
            .arg("--state")
            .arg(self.state())
            .output()
            .expect("the program can be started");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends it; the port is then nobody's.
    pub fn stop(&mut self) {
        self.process.end();
    }

    /// Ends it and serves another model on the same port, with the same state folder.
    pub fn restart(&mut self, model: &Path, options: &[&str]) {
        let (_, port) = self.url.rsplit_once(':').expect("the URL has a port");
        let port = port.parse().expect("a port is a number");
        self.stop();
        let command = Command::new(program("cloister"));
        self.process = spawn(command, model, port, self.folder.path(), options);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        until("serve is ready", || {
            assert!(self.process.runs(), "serve ended while it started");
            self.http
                .get(&format!("{}/health", self.url), &[])
                .ok()
                .filter(|answer| answer.status == 200)
        });
    }

    /// The most memory that it has had, in bytes.
    pub fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.expect("the kernel tells").trim();
        let kilobytes: u64 = kilobytes.trim_end_matches(" kB").parse().expect("a number");
        kilobytes << 10
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    /// GET of a path.
    pub fn get(&self, path: &str) -> Answer {
        self.http
            .get(&format!("{}{path}", self.url), &[])
            .expect("serve answers")
    }

    /// POST of a text to a path.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.http
            .post(&format!("{}{path}", self.url), body)
            .expect("serve answers")
    }

    /// A chat completion, whole.
    pub fn chat(&self, request: &Value) -> Answer {
        self.post("/v1/chat/completions", &request.to_string())
    }

    /// A chat completion, streamed: the JSON of each event but the closing `[DONE]`, which must be there.
    pub fn chat_stream(&self, request: &Value) -> Vec<Value> {
        let mut events: Vec<String> = self.open_chat_stream(request).collect();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events
            .iter()
            .map(|event| serde_json::from_str(event).expect("an event is JSON"))
            .collect()
    }

    /// A chat completion, streamed, to be read event by event.
    pub fn open_chat_stream(&self, request: &Value) -> Events {
        let mut request = request.clone();
        request["stream"] = json!(true);
        self.http
            .stream(&format!("{}/v1/chat/completions", self.url), &request)
    }

    /// The value of a metric, by its name without `cloister_`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let prefix = format!("cloister_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("there is no metric {name} in\n{text}"))
    }
}

fn spawn(
    mut command: Command,
    model: &Path,
    port: u16,
    folder: &Path,
    options: &[&str],
) -> Process {
    let everywhere = options.first() == Some(&"--listen");
    let (host, options) = match everywhere {
        true => ("0.0.0.0", &options[2..]),
        false => ("127.0.0.1", options),
    };
    let own_state = [OsStr::new("--state"), folder.as_os_str()];
    let state = &own_state[..if options.contains(&"--state") { 0 } else { 2 }];
    let kind = if model.is_dir() {
        "--models"
    } else {
        "--model"
    };
    Process::spawn(
        command
            .args(["serve", kind])
            .arg(model)
            .arg("--listen")
            .arg(format!("{host}:{port}"))
            .arg("--socket")
            .arg(folder.join("s.sock"))
            .args(options)
            .args(state)
            .stdin(Stdio::null()),
    )
}

/// Starts `cloister serve` on a free port where it must refuse to run; gives the one line it ends with.
pub fn refusal(model: &Path, options: &[&str]) -> String {
    let output = Command::new(program("cloister"))
        .args(["serve", "--listen"])
        .arg(format!("127.0.0.1:{}", free_port()))
        .arg("--model")
        .arg(model)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    // A slow machine is told how far loading is.
    let is_reason = |line: &&str| !line.contains(" INFO loading ");
    let lines: Vec<&str> = said.lines().filter(is_reason).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("cloister: "), "{said}");
    lines[0].to_owned()
}

/// A request with one question, greedy, of at most `max_tokens` tokens.
pub fn question(text: &str, max_tokens: u32) -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "You answer in one sentence."},
            {"role": "user", "content": text},
        ],
        "max_tokens": max_tokens,
        "temperature": 0,
    })
}
