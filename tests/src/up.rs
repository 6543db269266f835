//! `cloister up` on free ports.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, Command, Output, Stdio};
use std::sync::MutexGuard;

use serde_json::Value;
use tempfile::TempDir;

use crate::parts::{program, smollm2};
use crate::process::Process;
use crate::serve::engine_turn;

/// A running `cloister up` with SmolLM2; ended when dropped.
pub struct Up {
    /// The process itself.
    pub process: Process,
    /// Its page, with a slash at the end.
    pub page: String,
    /// All that it says of itself.
    pub endpoints: Value,
    /// The port of its broker.
    pub broker_port: String,
    /// Everything it writes.
    pub folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// The command, to which options may be added. Its node is `test`.
pub fn command(state: &std::path::Path) -> Command {
    let mut command = Command::new(program("cloister"));
    command
        .args(["up", "--json", "--node", "test", "--model"])
        .arg(smollm2());
    command.arg("--state").arg(state);
    command
}

impl Up {
    /// Starts it with these further options; returns when it has said where it can be asked.
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut command = command(folder.path());
        command.args(["--port", "0"]).args(options);
        Self::start_command(command, folder)
    }

    /// Starts it with nothing but a `cloister.toml`, whose text depends on a folder for its files.
    pub fn start_configured(config: impl FnOnce(&std::path::Path) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("cloister.toml");
        std::fs::write(&file, config(folder.path())).expect("the folder can be written");
        let mut command = Command::new(program("cloister"));
        command.args(["up", "--json", "--config"]).arg(&file);
        Self::start_command(command, folder)
    }

    /// Starts a command like [`command`]'s, all of whose files are in this folder.
    pub fn start_command(mut command: Command, folder: TempDir) -> Self {
        let turn = engine_turn();
        let mut process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let mut line = String::new();
        let stdout = process.0.stdout.take().expect("it was asked for");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("up prints text");
        let endpoints: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("up printed {line:?}"));
        let text = |name: &str| {
            endpoints[name]
                .as_str()
                .expect("it is in the line")
                .to_owned()
        };
        let broker_port = text("broker")
            .rsplit(':')
            .next()
            .expect("there is a port")
            .to_owned();
        Self {
            process,
            page: text("page"),
            broker_port,
            endpoints,
            folder,
            _turn: turn,
        }
    }

    /// Publishes as a program of this machine does, with these arguments of `mosquitto_pub`. Gives what it complains of.
    pub fn say(&self, arguments: &[&str]) -> String {
        let output = Command::new("mosquitto_pub")
            .args(["-p", &self.broker_port])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("mosquitto-clients are installed");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Asks over MQTT, as a JSON ask with the id `1`, and gives the answer's payload.
    pub fn ask_over_mqtt(&self, ask: &Value) -> Value {
        ask_over_mqtt("127.0.0.1", &self.broker_port, "1", ask)
    }
}

/// Runs a command that is to fail, and gives its exit code and what it wrote to standard error.
pub fn failure(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("the program is there");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Everything that a process writes to standard error until its end.
pub fn rest_of(mut stderr: ChildStderr) -> String {
    let mut text = String::new();
    stderr.read_to_string(&mut text).expect("it writes text");
    text
}

/// Asks the node `test` over MQTT 5, and gives the payload of the answer to this id.
pub fn ask_over_mqtt(host: &str, port: &str, id: &str, ask: &Value) -> Value {
    let answer_on = format!("cloister/test/answer/{id}");
    // Subscribes, and publishes once the broker has confirmed that.
    let answer = Command::new("mosquitto_rr")
        .args([
            "-h", host, "-p", port, "-V", "mqttv5", "-q", "1", "-W", "60",
        ])
        .args(["-t", "cloister/test/ask", "-e", &answer_on])
        .args(["-m", &ask.to_string()])
        .output()
        .expect("mosquitto-clients are installed");
    serde_json::from_slice(&answer.stdout)
        .unwrap_or_else(|_| panic!("the answer over MQTT was {answer:?}"))
}
