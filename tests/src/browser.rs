//! Chromium, headless, driven over the WebDriver protocol.
//!
//! In: a URL and what a person would do there. Out: what they would see, and every request that the
//! page made. It sends nothing by itself to any host.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Http;
use crate::process::{Process, free_port, until};

/// The member of an answer that names an element, by the WebDriver standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that have no letter, as WebDriver writes them.
pub mod key {
    /// Enter.
    pub const ENTER: char = '\u{e007}';
    /// Tab.
    pub const TAB: char = '\u{e004}';
    /// Escape.
    pub const ESCAPE: char = '\u{e00c}';
    /// Shift, to hold.
    pub const SHIFT: char = '\u{e008}';
    /// Control, to hold.
    pub const CONTROL: char = '\u{e009}';
}

/// A browser with one window; closed when dropped.
pub struct Browser {
    session: String,
    http: Http,
    _driver: Process,
    _profile: TempDir,
}

/// A request that the page made, and what came back for it.
#[derive(Debug)]
pub struct Request {
    /// Its URL.
    pub url: String,
    /// Bytes over the wire, head and body; 0 while the answer still runs.
    pub bytes: u64,
}

impl Browser {
    /// Starts Chromium with a profile of its own.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder can be made");
        let port = free_port();
        let mut driver = Process::spawn(
            Command::new("chromedriver")
                .arg(format!("--port={port}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let http = Http::default();
        let driver_url = format!("http://127.0.0.1:{port}");
        until("chromedriver is ready", || {
            assert!(driver.runs(), "chromedriver ended while it started");
            http.get(&format!("{driver_url}/status"), &[]).ok()
        });
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            // The box's own certificate, as a person takes it once.
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage",
                format!("--user-data-dir={}", profile.path().display()),
            ]},
        }}});
        let answer = http
            .post(&format!("{driver_url}/session"), &capabilities.to_string())
            .expect("chromedriver answers")
            .json();
        let id = answer["value"]["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {answer}"));
        let session = format!("{driver_url}/session/{id}");
        Self {
            session,
            http,
            _driver: driver,
            _profile: profile,
        }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = self
            .http
            .post(&format!("{}/{path}", self.session), &body.to_string())
            .expect("chromedriver answers");
        let status = answer.status;
        let value = answer.json()["value"].take();
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    /// Loads a page.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.command("refresh", &json!({}));
    }

    /// Presses these keys together on whatever has the focus, and lets them go.
    pub fn press(&self, keys: &[char]) {
        let down = keys
            .iter()
            .map(|key| json!({"type": "keyDown", "value": key}));
        let up = keys
            .iter()
            .rev()
            .map(|key| json!({"type": "keyUp", "value": key}));
        let strokes: Vec<Value> = down.chain(up).collect();
        self.command(
            "actions",
            &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}),
        );
    }

    /// Gives the page a width and a height in CSS pixels, below what a window can have.
    pub fn resize(&self, width: u32, height: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
    }

    /// A command of Chromium's own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        )
    }

    /// A picture of what can be seen, as PNG in base64.
    pub fn screenshot(&self) -> String {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        picture["data"].as_str().expect("a picture").to_owned()
    }

    /// Runs a function body in the page.
    pub fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Runs a function body that calls its last argument with the outcome.
    pub fn run_async(&self, script: &str) -> Value {
        self.command("execute/async", &json!({"script": script, "args": []}))
    }

    fn element(&self, selector: &str) -> String {
        let value = self.command(
            "element",
            &json!({"using": "css selector", "value": selector}),
        );
        value[ELEMENT]
            .as_str()
            .expect("an element has an id")
            .to_owned()
    }

    /// Types into an element, key by key.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(
            &format!("element/{element}/value"),
            &json!({ "text": text }),
        );
    }

    /// Clicks an element that can be seen.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    /// The requests that the page has made since the last call.
    pub fn requests(&self) -> Vec<Request> {
        let mut requests: Vec<(String, Request)> = Vec::new();
        for entry in self.log("performance") {
            let event: Value =
                serde_json::from_str(entry["message"].as_str().expect("a message")).expect("JSON");
            let (method, parameters) = (&event["message"]["method"], &event["message"]["params"]);
            let id = parameters["requestId"].as_str().unwrap_or_default();
            match method.as_str() {
                Some("Network.requestWillBeSent") => {
                    let url = parameters["request"]["url"]
                        .as_str()
                        .expect("a request has a URL")
                        .to_owned();
                    requests.push((id.to_owned(), Request { url, bytes: 0 }));
                }
                Some("Network.webSocketCreated" | "Network.webTransportCreated") => {
                    let url = parameters["url"]
                        .as_str()
                        .expect("a connection has a URL")
                        .to_owned();
                    requests.push((id.to_owned(), Request { url, bytes: 0 }));
                }
                Some("Network.loadingFinished") => {
                    if let Some((_, request)) = requests.iter_mut().rfind(|(known, _)| known == id)
                    {
                        request.bytes = parameters["encodedDataLength"]
                            .as_f64()
                            .expect("bytes are counted")
                            as u64;
                    }
                }
                _ => {}
            }
        }
        // The browser's own pages, such as that of a new tab, come from itself.
        requests
            .into_iter()
            .map(|(_, request)| request)
            .filter(|request| !request.url.starts_with("chrome"))
            .collect()
    }

    /// What the browser itself complained about since the last call: script errors, refusals by the
    /// Content-Security-Policy, failed requests.
    pub fn complaints(&self) -> Vec<String> {
        self.log("browser")
            .iter()
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.command("se/log", &json!({ "type": kind }));
        log.as_array().expect("a log is a list").clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, which is the driver's child and would outlive it.
        let _ = self.http.delete(&self.session);
    }
}
