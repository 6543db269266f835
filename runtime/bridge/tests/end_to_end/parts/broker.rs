//! A Mosquitto, and its own programs that publish and listen.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{PATIENCE, eventually, free_port};

/// A Mosquitto on a loopback port.
pub struct Broker {
    pub port: u16,
    pub(super) login: Option<(String, String)>,
    folder: TempDir,
    process: Option<Process>,
}

impl Broker {
    /// Open to everybody.
    pub fn start() -> Self {
        Self::start_with("allow_anonymous true\n", &[])
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

    /// Its one port as this configuration says. `FOLDER` in it is its own folder, where these files are.
    pub fn start_with(configuration: &str, files: &[(&str, &str)]) -> Self {
        let mut broker = Self::reserve();
        let folder = broker.folder.path();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        broker.configure(&configuration.replace("FOLDER", folder.to_str().unwrap()));
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

    /// The next message, if one comes so soon.
    pub fn next_within(&self, time: Duration) -> Option<Heard> {
        self.received.recv_timeout(time).ok()
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
