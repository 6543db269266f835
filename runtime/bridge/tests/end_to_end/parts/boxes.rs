//! The two programs of a box: the bridge, and `cloister serve`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Broker, Process, eventually, free_port, program, smollm2};

/// A bridge named `n`.
pub struct Bridge {
    pub process: Process,
    folder: PathBuf,
}

pub const BOTH_VERSIONS: [&str; 2] = ["3.1.1", "5"];

impl Bridge {
    /// Starts it; `folder` holds its state and its log, and the engine's socket if there is one.
    pub fn start(broker: &Broker, folder: &Path, version: &str) -> Self {
        let login = broker
            .login
            .as_ref()
            .map_or(String::new(), |(user, password)| {
                format!("{user}:{password}@")
            });
        let url = format!("mqtt://{login}127.0.0.1:{}", broker.port);
        Self::start_at(&url, folder, version, |_| {})
    }

    pub fn start_at(
        url: &str,
        folder: &Path,
        version: &str,
        with: impl FnOnce(&mut Command),
    ) -> Self {
        let log = File::create(folder.join("bridge.log")).unwrap();
        let process = Process::start(env!("CARGO_BIN_EXE_cloister-bridge"), |command| {
            command
                // Not as a flag: it may hold a password.
                .env("CLOISTER_BROKER", url)
                .args(["--mqtt-version", version])
                .arg("--socket")
                .arg(socket(folder))
                .arg("--state")
                // A journal for each version: a test may ask the same of both.
                .arg(folder.join(if version == "5" {
                    "state"
                } else {
                    "state-3.1.1"
                }))
                .env("CLOISTER_NODE", "n")
                .stderr(log);
            with(command);
        });
        Self {
            process,
            folder: folder.into(),
        }
    }

    /// Starts it and waits until it listens.
    pub fn start_online(broker: &Broker, folder: &Path, version: &str) -> Self {
        let status = broker.listen(&["cloister/n/status"]);
        let bridge = Self::start(broker, folder, version);
        status.wait_online();
        bridge
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("bridge.log")).unwrap()
    }

    /// Asks it to stop, and expects a clean end.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.wait().code(), Some(0), "{}", self.log());
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the bridge's log:\n{}", self.log());
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("engine.sock")
}

/// A running `cloister serve`.
pub struct Engine {
    pub process: Process,
    pub socket: PathBuf,
}

/// The answer to a GET over a Unix socket, head and all.
fn get(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    Some(response)
}

impl Engine {
    /// Tells it what its panel says.
    pub fn told_by_panel(&self, report: &serde_json::Value) {
        let body = report.to_string();
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        write!(
            stream,
            "PUT /api/panel HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Starts it with SmolLM2, its socket in `folder`, and waits until it is ready.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(&smollm2(), folder)
    }

    /// The same with another model, or a folder of models.
    pub fn start_with(model: &Path, folder: &Path) -> Self {
        Self::start_by(Command::new(program("cloister")), model, folder)
    }

    /// The same on a board whose sensors are these files of `/sys/class`.
    pub fn start_on_board(model: &Path, folder: &Path, sensors: &[(&str, &str)]) -> Self {
        let class = folder.join("class");
        for (name, text) in sensors {
            let file = class.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{text}\n")).unwrap();
        }
        let mut board = Command::new("unshare");
        board
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /sys/class && exec \"$@\"")
            .arg(class)
            .arg(program("cloister"));
        Self::start_by(board, model, folder)
    }

    fn start_by(starter: Command, model: &Path, folder: &Path) -> Self {
        let log = File::create(folder.join("engine.log")).unwrap();
        let process = Process::start(starter.get_program(), |command| {
            command
                .args(starter.get_args())
                .arg("serve")
                .arg(if model.is_dir() {
                    "--models"
                } else {
                    "--model"
                })
                .arg(model)
                // One thread waits for no other: two engines at once, or a busy machine, do no harm.
                .args(["--threads", "1"])
                .args(["--listen", &format!("127.0.0.1:{}", free_port())])
                .arg("--socket")
                .arg(socket(folder))
                .arg("--state")
                .arg(folder.join("engine"))
                .stdout(Stdio::null())
                .stderr(log);
        });
        let mut engine = Self {
            process,
            socket: socket(folder),
        };
        eventually("the engine is ready", || {
            assert!(
                engine.process.is_running(),
                "the engine ended: {}",
                std::fs::read_to_string(folder.join("engine.log")).unwrap()
            );
            let response = get(&engine.socket, "/health")?;
            response.starts_with("HTTP/1.1 200").then_some(())
        });
        engine
    }

    /// The value of a metric, by its name without `cloister_`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = get(&self.socket, "/metrics").expect("the engine answers");
        let prefix = format!("cloister_{name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in {text}"))
    }
}
