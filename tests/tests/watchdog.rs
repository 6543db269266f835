//! A box that is busy, private or too hot is alive, and one that computes nothing any more is not: for watchdogs.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use cloister_tests::http::{post_over_unix, post_over_unix_as, put_over_unix};
use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

/// Asks as the panel does whether it computes.
fn computes(serve: &Serve) -> bool {
    let answer = post_over_unix(&serve.socket(), "/api/panel/test", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    body["computes"].as_bool().unwrap()
}

fn tell(serve: &Serve, report: &Value) {
    let answer = put_over_unix(&serve.socket(), "/api/panel", &report.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn the_self_test_goes_past_the_queue_the_heat_and_the_privacy_switch_and_leaves_no_trace() {
    let serve = Serve::start(&smollm2(), &["--slots", "1", "--queue", "1"]);
    let ask = question("Name the seven colours of a rainbow, one in each line.", 16);
    let answered = || {
        let answer = serve.chat(&ask);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let said = answer.json();
        let cached = said["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
        (said["choices"][0]["message"]["content"].clone(), cached)
    };
    let (first, _) = answered();
    let before = answered();
    assert!(computes(&serve), "idle");
    assert!(computes(&serve), "and again");
    let after = answered();
    assert_eq!((&after.0, &after), (&first, &before));
    assert!(
        after.1.as_u64() > Some(0),
        "the cache is as it was: {after:?}"
    );

    let mut endless = question("Count to a thousand.", 3000);
    endless["response_format"] =
        json!({"type": "grammar", "syntax": "regex", "definition": "[0-9 ]{2500}"});
    let mut running = serve.open_chat_stream(&endless);
    running.next().unwrap();
    let _waiting = serve.open_chat_stream(&endless);
    assert!(computes(&serve), "busy, and with a full queue");
    tell(&serve, &json!({"throttle": 3}));
    assert!(computes(&serve), "slowed");
    tell(&serve, &json!({"throttle": 4}));
    assert!(computes(&serve), "too hot");
    tell(&serve, &json!({"private": true}));
    assert!(computes(&serve), "private");

    for (answer, what) in [
        (
            post_over_unix_as(&serve.socket(), "/api/panel/test", "", "a"),
            "a test",
        ),
        (
            post_over_unix_as(&serve.socket(), "/api/panel/pair", "", "a"),
            "a code",
        ),
    ] {
        assert!(
            answer.starts_with("HTTP/1.1 403"),
            "{what} for others: {answer}"
        );
    }
    for path in ["/api/panel/test", "/api/panel/pair"] {
        assert_eq!(serve.post(path, "").status, 403, "{path} from a port");
    }
    assert_eq!(serve.get("/api/panel/door").status, 403);
}

/// Holds one thread of a process, which otherwise goes on, until dropped.
struct Held(libc::pid_t);

impl Held {
    fn thread(process: u32, name: &str) -> Self {
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let mut threads = threads.map(|thread| thread.unwrap().path());
        let called = |at: &std::path::PathBuf| {
            fs::read_to_string(at.join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let at = threads.find(called).expect("there is such a thread");
        let id: libc::pid_t = at.file_name().unwrap().to_str().unwrap().parse().unwrap();
        for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            trace(request, id);
        }
        until("it stands still", || {
            let stat = fs::read_to_string(at.join("stat")).unwrap();
            stat.rsplit(") ")
                .next()
                .unwrap()
                .starts_with('t')
                .then_some(())
        });
        Self(id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        trace(libc::PTRACE_DETACH, self.0);
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of this process.
    let done = unsafe { libc::ptrace(request, thread, none, none) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn systemd_hears_of_a_serve_for_as_long_as_it_computes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = Command::new(program("cloister"));
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let serve = Serve::start_by(command, &smollm2(), &[]);
    // How often it says so within two seconds.
    let heard = || {
        let end = Instant::now() + Duration::from_secs(2);
        let mut times = 0;
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|l| !l.is_zero())
        {
            socket.set_read_timeout(Some(left)).unwrap();
            let mut said = [0; 64];
            match socket.recv(&mut said) {
                Ok(n) => times += usize::from(&said[..n] == b"WATCHDOG=1"),
                Err(_) => break,
            }
        }
        times
    };
    until("it says that it runs", || (heard() > 0).then_some(()));
    let held = Held::thread(serve.id(), "engine");
    until("it is silent", || (heard() == 0).then_some(()));
    let health = serve.get("/health");
    assert_eq!(health.status, 200, "its port is fooled: {}", health.body);
    drop(held);
    until("it says that it runs again", || (heard() > 0).then_some(()));
}
