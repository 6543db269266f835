//! The real parts as child processes. Each ends when its guard is dropped, and with the thread that
//! started it: a failing test leaves nothing behind.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A child process that dies with its guard, and with the thread of its test.
pub struct Process(Child);

impl Process {
    pub fn start(program: impl AsRef<std::ffi::OsStr>, with: impl FnOnce(&mut Command)) -> Self {
        let program = program.as_ref();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.stdin(Stdio::null());
        with(&mut command);
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {program:?}: {error}")),
        )
    }

    /// Guards a child that was started elsewhere.
    pub fn guard(child: Child) -> Self {
        Self(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status();
        assert!(status.unwrap().success(), "no process to send {name} to");
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.0.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn kill(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Mosquitto on a loopback port.
pub struct Broker {
    pub port: u16,
    login: Option<(String, String)>,
    folder: TempDir,
    process: Option<Process>,
}

impl Broker {
    /// Open to everybody.
    pub fn start() -> Self {
        let mut broker = Self::reserve();
        broker.configure("allow_anonymous true\n");
        broker.up();
        broker
    }

    /// Open to one user.
    pub fn start_with_password(user: &str, password: &str) -> Self {
        let mut broker = Self::reserve();
        let file = broker.folder.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&file)
            .args([user, password])
            .status();
        assert!(made.unwrap().success());
        broker.configure(&format!(
            "allow_anonymous false\npassword_file {}\n",
            file.display()
        ));
        broker.login = Some((user.into(), password.into()));
        broker.up();
        broker
    }

    /// Open to everybody, and on another port, which is returned, as this configuration says.
    pub fn start_with_listener(configuration: &str) -> (Self, u16) {
        let mut broker = Self::reserve();
        let further = free_port();
        // `socket_domain`: without IPv6 its WebSocket library takes an address to listen on.
        broker.configure(&format!(
            "allow_anonymous true\nlistener {further} 127.0.0.1\nsocket_domain ipv4\n{configuration}"
        ));
        broker.up();
        eventually("the broker's other port listens", || {
            TcpStream::connect(("127.0.0.1", further)).ok()
        });
        (broker, further)
    }

    /// Open to everybody, for packets of at most so many bytes.
    pub fn start_with_largest_packet(bytes: usize) -> Self {
        let mut broker = Self::reserve();
        broker.configure(&format!("allow_anonymous true\nmax_packet_size {bytes}\n"));
        broker.up();
        broker
    }

    /// A port and a folder, nothing running yet.
    pub fn reserve() -> Self {
        let broker = Self {
            port: free_port(),
            login: None,
            folder: TempDir::new().unwrap(),
            process: None,
        };
        broker.configure("allow_anonymous true\n");
        broker
    }

    fn configure(&self, access: &str) {
        // `user root`: else Mosquitto, started by root, gives up the right to read its own files.
        let text = format!(
            "user root\nper_listener_settings true\nlistener {} 127.0.0.1\npersistence false\nmax_queued_messages 20000\n{access}",
            self.port
        );
        std::fs::write(self.folder.path().join("mosquitto.conf"), text).unwrap();
    }

    pub fn up(&mut self) {
        let config = self.folder.path().join("mosquitto.conf");
        let log = File::create(self.folder.path().join("log")).unwrap();
        // Debian keeps it in /usr/sbin, which is not on everybody's path.
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or("mosquitto");
        self.process = Some(Process::start(program, |command| {
            command.arg("-c").arg(config).stderr(log);
        }));
        let port = self.port;
        eventually("the broker listens", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Ends it as a power cut would.
    pub fn down(&mut self) {
        self.process = None;
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some((user, password)) = &self.login {
            command.args(["-u", user, "-P", password]);
        }
        command
    }

    /// Publishes at QoS 1 with `mosquitto_pub` and further arguments.
    pub fn publish_with(&self, topic: &str, payload: &[u8], arguments: &[&str]) {
        // It takes no empty input for an empty message.
        let input = if payload.is_empty() { "-n" } else { "-s" };
        self.run_publisher(topic, payload, &[&[input], arguments].concat());
    }

    /// Publishes each line as a message of its own, all over one connection.
    pub fn publish_lines(&self, topic: &str, lines: &str) {
        self.run_publisher(topic, lines.as_bytes(), &["-l"]);
    }

    fn run_publisher(&self, topic: &str, payload: &[u8], arguments: &[&str]) {
        let mut child = self
            .client("mosquitto_pub")
            .args(["-q", "1", "-t", topic])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // `-n` reads nothing and may have closed it.
        let _ = child.stdin.take().unwrap().write_all(payload);
        assert!(child.wait().unwrap().success(), "mosquitto_pub to {topic}");
    }

    pub fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(topic, payload.as_ref(), &[]);
    }

    /// Listens with `mosquitto_sub`; returns once it is subscribed.
    pub fn listen(&self, topics: &[&str]) -> Listener {
        self.listen_as("%t\t%D\t%p", topics)
    }

    /// The same with another format: topic, anything, payload, between tabs.
    pub fn listen_as(&self, format: &str, topics: &[&str]) -> Listener {
        let probe = format!("probe/{}", free_port());
        self.publish_with(&probe, b"1", &["-r"]);
        let mut command = self.client("mosquitto_sub");
        command.args(["-V", "5", "-q", "1", "-F", format, "-t", &probe]);
        for topic in topics {
            command.args(["-t", topic]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, '\t').map(str::to_string);
                let heard = Heard {
                    topic: parts.next().unwrap_or_default(),
                    correlation: parts.next().unwrap_or_default(),
                    payload: parts.next().unwrap_or_default(),
                };
                if sender.send(heard).is_err() {
                    break;
                }
            }
        });
        let listener = Listener {
            received,
            _process: Process(child),
        };
        listener.next_on(&probe);
        listener
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() && self.process.is_some() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// A TCP connection's way to the broker that a test can cut, as a bad cable would.
pub struct Cable {
    pub port: u16,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    pub fn to(broker: &Broker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (broker_port, held) = (broker.port, Arc::clone(&ends));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", broker_port)) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let mut from = from.try_clone().unwrap();
                    let mut to = to.try_clone().unwrap();
                    // Ends with an error when it is cut; that is what it is for.
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                held.lock().unwrap().extend([near, far]);
            }
        });
        Self { port, ends }
    }

    pub fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            // Fails only for one that is closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// A message as `mosquitto_sub` showed it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub topic: String,
    pub correlation: String,
    pub payload: String,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.payload))
    }

    pub fn error_code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no error code in {self:?}"))
            .to_string()
    }
}

pub struct Listener {
    received: Receiver<Heard>,
    _process: Process,
}

impl Listener {
    fn any(&self) -> Heard {
        self.received
            .recv_timeout(PATIENCE)
            .expect("a message comes")
    }

    /// The next message but for the copies on `answer/last`.
    pub fn next(&self) -> Heard {
        loop {
            let heard = self.any();
            if heard.topic != "cloister/n/answer/last" {
                return heard;
            }
        }
    }

    /// Waits until the bridge says that it listens.
    pub fn wait_online(&self) {
        while self.next_on("cloister/n/status").payload != "online" {}
    }

    /// The next message on this topic; what comes before on others is dropped.
    pub fn next_on(&self, topic: &str) -> Heard {
        loop {
            let heard = self.any();
            if heard.topic == topic {
                return heard;
            }
        }
    }
}

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

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A running `cloister serve`.
pub struct Engine {
    pub process: Process,
    socket: PathBuf,
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

impl Engine {
    /// Starts it with SmolLM2, its socket in `folder`, and waits until it is ready.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(&smollm2(), folder)
    }

    /// The same with another model, or a folder of models.
    pub fn start_with(model: &Path, folder: &Path) -> Self {
        let log = File::create(folder.join("engine.log")).unwrap();
        let process = Process::start(program("cloister"), |command| {
            command
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
