//! `cloister-panel` beside a running `serve`: simulated in a terminal, driven by keys, and as it is on this machine.

use std::io::{Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use cloister_tests::http::put_over_unix;
use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, until};
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

/// A simulated panel in a terminal of its own.
struct Simulated {
    process: Process,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Simulated {
    fn beside(serve: &Serve) -> Self {
        let panel = program("cloister-panel");
        let command = format!(
            "{} --simulate --board raspberry-pi-5 --socket {}",
            panel.display(),
            serve.socket().display()
        );
        // `script` gives it a terminal.
        let mut process = Process::spawn(
            Command::new("script")
                .args([
                    "--quiet",
                    "--flush",
                    "--return",
                    "--command",
                    &command,
                    "/dev/null",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        );
        let keys = process.0.stdin.take().unwrap();
        let mut drawn = process.0.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = drawn.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..n]);
                let mut shown = shown.lock().unwrap();
                // What is drawn anew begins at the top.
                match text.rsplit_once("\x1b[H") {
                    Some((_, anew)) => *shown = anew.to_owned(),
                    None => shown.push_str(&text),
                }
            }
        });
        Self {
            process,
            keys,
            screen,
        }
    }

    fn key(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// The pairing code on the display.
    fn code(&self) -> Option<String> {
        let screen = self.screen.lock().unwrap().clone();
        let is_code = |text: &&str| {
            text.len() == 9
                && text
                    .bytes()
                    .all(|byte| byte == b' ' || byte.is_ascii_digit())
        };
        let mut shown = screen.lines().filter_map(|line| line.split('│').nth(1));
        shown.find_map(|text| Some(text.trim()).filter(is_code).map(str::to_owned))
    }

    /// Waits until a line that begins so says this.
    fn says(&self, line: &str, word: &str) {
        until(&format!("{line} says {word}"), || {
            let screen = self.screen.lock().unwrap().clone();
            screen
                .lines()
                .any(|of| of.starts_with(line) && of.contains(word))
                .then_some(())
        });
    }
}

#[test]
fn the_simulated_panel_shows_what_serve_does_and_its_keys_are_obeyed() {
    let mut serve = Serve::start(&smollm2(), &["--slots", "1"]);
    let mut panel = Simulated::beside(&serve);
    panel.says("light", "ready");
    panel.says("fan", "%");

    let mut request = question("Count to a thousand.", 3000);
    request["response_format"] =
        json!({"type": "grammar", "syntax": "regex", "definition": "[0-9 ]{2500}"});
    let mut running = serve.open_chat_stream(&request);
    running.next().unwrap();
    panel.says("light", "answering");
    panel.key(" ");
    let last = running.filter(|event| event != "[DONE]").last().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["error"]["code"], "stopped");
    panel.says("light", "ready");

    // Pressed while nothing is answered, the button asks for what the display can say.
    panel.key(" ");
    panel.says("display", "open http://");
    panel.says("", serve.url.trim_start_matches("http://"));
    panel.key(" ");
    panel.says("display", "pairing code:");
    let code = until("there is a code", || panel.code());
    let paired = serve.post("/pair", &json!({"code": code}).to_string());
    assert_eq!(paired.status, 204, "{}", paired.body);
    panel.key(" ");
    panel.says("display", "no certificate:");

    panel.key("p");
    panel.says("light", "private");
    let refused = serve.chat(&question("Hello?", 4));
    assert_eq!(refused.json()["error"]["code"], "privacy");
    panel.key("p");
    panel.says("light", "ready");
    until("it answers again", || {
        (serve.chat(&question("Hello?", 4)).status == 200).then_some(())
    });

    panel.key("s");
    panel.says("problems", "die: bus_error");
    panel.says("light", "broken");
    panel.says("engine", "slowed by 2");
    until("serve is slowed", || {
        (serve.metric("throttle_step") == 2.0).then_some(())
    });
    panel.key("s");
    panel.says("problems", "none");
    // It has driven the fan full, and keeps that for a minute: one that does not turn is seen.
    panel.key("b");
    panel.says("problems", "fan: blocked");
    panel.says("light", "broken");
    assert!(serve.metric("throttle_step") > 0.0);
    panel.key("b");
    panel.says("problems", "none");

    // Who speaks for this box besides is heard, and its wish is not this panel's; gone, `serve` is told anew what holds.
    let other = |report: Value| {
        put_over_unix(&serve.socket(), "/api/panel", &report.to_string());
    };
    other(json!({"panel": 99, "throttle": 3}));
    panel.says("problems", "throttle: ignored");
    panel.says("light", "broken");
    other(json!({"panel": 99, "throttle": 4, "leaves": true}));
    assert_eq!(serve.metric("throttle_step"), 4.0);
    until("it is as this panel wishes", || {
        (serve.metric("throttle_step") == 0.0).then_some(())
    });
    panel.says("problems", "none");

    for (key, problem) in [("l", "die: jumps"), ("u", "fan: denied")] {
        panel.key(key);
        panel.says("problems", problem);
        panel.key(key);
        panel.says("problems", "none");
    }

    serve.stop();
    panel.says("light", "starting");
    serve.restart(&smollm2(), &["--slots", "1"]);
    panel.says("light", "ready");

    // Nothing is there that could shut it down, and the light does not say so.
    panel.key("h");
    panel.says("problems", "shutdown: absent");
    panel.key("p");
    panel.says("light", "private");
    panel.key("q");
    assert!(panel.process.0.wait().unwrap().success());
    // With it its switch is gone, on or off, also for a restart.
    until("it answers again", || {
        (serve.chat(&question("Hello?", 4)).status == 200).then_some(())
    });
    serve.restart(&smollm2(), &["--slots", "1"]);
    assert_eq!(serve.chat(&question("Hello?", 4)).status, 200);
}

#[test]
fn the_panel_of_this_machine_is_sealed_reports_and_survives_serve() {
    let mut serve = Serve::start(&smollm2(), &[]);
    let mut panel = Process::spawn(
        Command::new(program("cloister-panel"))
            .arg("--socket")
            .arg(serve.socket())
            .stdin(Stdio::null()),
    );
    let light = |serve: &Serve| {
        let mut events = serve.http.events(&format!("{}/api/events", serve.url));
        let state: Value = serde_json::from_str(&events.next().unwrap()).unwrap();
        state["panel"]["light"].as_str().map(str::to_owned)
    };
    until("serve hears of it", || {
        light(&serve).filter(|light| light == "ready" || light == "broken")
    });
    until("its seal is shown", || {
        let ledger = serve.get("/api/privacy").json();
        let processes = ledger["processes"].as_array().unwrap();
        let panel = processes.iter().find(|of| of["name"] == "panel")?;
        assert!(
            panel["seal"]
                .as_str()
                .unwrap()
                .contains("system calls filtered")
        );
        Some(())
    });
    serve.restart(&smollm2(), &[]);
    until("the next serve hears of it", || light(&serve));
    panel.signal(libc::SIGTERM);
    assert!(panel.0.wait().unwrap().success());
}

/// What is wrong, as everybody hears it.
fn problems(serve: &Serve) -> Vec<Value> {
    let mut events = serve.http.events(&format!("{}/api/events", serve.url));
    let state: Value = serde_json::from_str(&events.next().unwrap()).unwrap();
    state["panel"]["problems"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Waits until this is wrong, or right again.
fn until_wrong(serve: &Serve, what: &str, why: &str, wrong: bool) {
    let problem = json!({"what": what, "why": why});
    until(&format!("{problem} is wrong: {wrong}"), || {
        (problems(serve).contains(&problem) == wrong).then_some(())
    });
}

#[test]
fn what_is_wired_and_not_there_is_told_and_used_when_it_comes_and_a_switch_that_cannot_be_read_is_on()
 {
    let serve = Serve::start(&smollm2(), &[]);
    let config = serve.state().join("panel.toml");
    let wired = r#"
        [panel.devices]
        light = { driver = "led", name = "panel" }
        display = { driver = "ssd1306", bus = "none", address = 0x3C, size = "128x64" }
        privacy-switch = { chip = "none", line = 1 }
    "#;
    std::fs::write(&config, wired).unwrap();
    // LEDs of its own: a folder for the kernel's.
    let leds = tempfile::tempdir().unwrap();
    let (class, devices) = (leds.path().join("class/leds"), leds.path().join("devices"));
    std::fs::create_dir_all(&class).unwrap();
    std::fs::create_dir_all(&devices).unwrap();
    std::os::unix::fs::symlink("/sys/devices/virtual/led", class.join("panel")).unwrap();
    let mounted = r#"mount --bind "$1" /sys/class && mount --bind "$2" /sys/devices/virtual && shift 2 && exec "$@""#;
    let mut panel = Process::spawn(
        Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                mounted,
                "sh",
            ])
            .args([
                &leds.path().join("class"),
                &devices,
                &program("cloister-panel"),
            ])
            .arg("--config")
            .arg(config)
            .arg("--socket")
            .arg(serve.socket())
            .stdin(Stdio::null()),
    );
    for what in ["light", "display", "privacy_switch"] {
        until_wrong(&serve, what, "absent", true);
    }
    let asked = serve.chat(&question("Hello?", 4)).json();
    assert_eq!(asked["error"]["code"], "privacy");

    // It comes, goes, and comes back, and the panel is sealed long since.
    let led = devices.join("led");
    for _ in 0..2 {
        std::fs::create_dir(&led).unwrap();
        std::fs::write(led.join("brightness"), "0").unwrap();
        std::fs::write(led.join("max_brightness"), "7").unwrap();
        until_wrong(&serve, "light", "absent", false);
        until("it shines", || {
            let shines = std::fs::read_to_string(led.join("brightness"));
            (shines.unwrap() == "7").then_some(())
        });
        std::fs::remove_dir_all(&led).unwrap();
        until_wrong(&serve, "light", "absent", true);
    }
    panel.signal(libc::SIGTERM);
    assert!(panel.0.wait().unwrap().success());
}

#[test]
fn probe_lists_what_was_looked_for_and_wrong_use_is_one_line() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program("cloister-panel"));
        command.args(arguments).env_remove("CLOISTER_SOCKET");
        command.stdin(Stdio::null()).output().unwrap()
    };
    let probe = run(&["probe", "--json", "--board", "raspberry-pi-5"]);
    let said: Value = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(said["board"], "raspberry-pi-5");
    let findings = said["findings"].as_array().unwrap();
    let fan = findings.iter().find(|of| of["what"] == "fan").unwrap();
    assert!(fan["state"] == "missing" && fan["why"].is_string(), "{fan}");
    for (arguments, code, word) in [
        (&[][..], 2, "--socket"),
        (&["probe", "--board", "toaster"], 2, "raspberry-pi-5"),
        (&["--simulate", "--socket", "/nowhere"], 1, "terminal"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.lines().count() == 1 && said.contains(word), "{said}");
    }
}
