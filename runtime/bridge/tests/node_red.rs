//! The flow of the documentation in a real Node-RED, with a real Mosquitto and a real model: only
//! `tests/run --all` runs this, by its name. `CLOISTER_NODE_RED` is a folder that has Node-RED.

#[path = "end_to_end/parts/mod.rs"]
#[allow(dead_code, unused_imports)] // The other end-to-end tests use the rest.
mod parts;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use parts::{Bridge, Broker, Engine, Process, documented, eventually, free_port, tiny_r1};
use serde_json::Value;
use tempfile::TempDir;

/// Where the flow says these are.
const BROKER_PORT: &str = r#""port": "1883""#;
const NODE: &str = "cloister/NODE/ask";

struct NodeRed {
    _process: Process,
    port: u16,
    log: PathBuf,
}

impl NodeRed {
    /// Starts it with the documentation's flow, for the box `n` at this broker, with a question of its own.
    fn start(folder: &Path, broker: &Broker, question: &str) -> Self {
        let flow = std::fs::read_to_string(documented("node-red.json")).unwrap();
        for placeholder in [BROKER_PORT, NODE, "Why is the sky blue?"] {
            assert!(
                flow.contains(placeholder),
                "{placeholder} is not in the flow"
            );
        }
        let flow = flow
            .replace(BROKER_PORT, &format!(r#""port": "{}""#, broker.port))
            .replace(NODE, "cloister/n/ask")
            .replace("Why is the sky blue?", question);
        let home = folder.join("node-red");
        std::fs::create_dir_all(&home).unwrap();
        let (flows, log) = (home.join("flows.json"), home.join("log"));
        std::fs::write(&flows, flow).unwrap();
        let installed = std::env::var_os("CLOISTER_NODE_RED")
            .expect("CLOISTER_NODE_RED names a folder where `npm install node-red` was run");
        let port = free_port();
        let process = Process::start("node", |command| {
            command
                .arg(Path::new(&installed).join("node_modules/node-red/red.js"))
                .arg("--settings")
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node_red/settings.js"))
                .arg("--userDir")
                .arg(&home)
                .args(["--port", &port.to_string()])
                .arg(&flows)
                .stdout(File::create(&log).unwrap());
        });
        let node_red = Self {
            _process: process,
            port,
            log,
        };
        eventually("Node-RED is connected to the broker", || {
            node_red.log().contains("Connected to broker").then_some(())
        });
        node_red
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Presses the flow's button.
    fn press(&self) {
        let flow: Value =
            serde_json::from_slice(&std::fs::read(documented("node-red.json")).unwrap()).unwrap();
        let button = flow
            .as_array()
            .unwrap()
            .iter()
            .find(|node| node["type"] == "inject")
            .unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "POST /inject/{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            button["id"].as_str().unwrap()
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
}

impl Drop for NodeRed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Node-RED's log:\n{}", self.log());
        }
    }
}

#[test]
fn the_flow_of_the_documentation_asks_and_shows_the_answer_or_what_was_wrong() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start_with(&tiny_r1(folder.path()), folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");

    let node_red = NodeRed::start(folder.path(), &broker, "Has a spider legs?");
    node_red.press();
    eventually("the answer is shown", || {
        let log = node_red.log();
        let shown = log
            .lines()
            .skip_while(|line| !line.contains("[debug:The answer]"));
        shown
            .take(2)
            .any(|line| line.trim() == "Yes" || line.ends_with(" Yes"))
            .then_some(())
    });
    drop(node_red);

    // An empty question is an error, which the flow gives to Node-RED.
    let node_red = NodeRed::start(folder.path(), &broker, "");
    node_red.press();
    eventually("the error is shown", || {
        let log = node_red.log();
        let told = |line: &str| line.contains("[error]") && line.contains("\"prompt\" is empty");
        log.lines().any(told).then_some(())
    });
}
