//! Nothing is lost, whatever is killed: `serve`, the bridge and Mosquitto, with kill -9, at random, while
//! many asks are on their way. For `kills`, and at length for `thousand_asks`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::parts::{Bridge, Broker, Engine, Process, python_command};

/// How long no answer may come, when nothing is killed any more. The asker ends 3 s after the last.
const SILENCE: Duration = Duration::from_secs(120);

/// Asks, kills each part so often, and holds what came against what was promised.
pub fn survive(version: &str, asks: usize, kills_of_each: usize, pause: std::ops::Range<u64>) {
    let folder = TempDir::new().unwrap();
    let mut broker = Broker::start();
    let mut bridge = Bridge::start_online(&broker, folder.path(), version);
    let mut engine = Some(Engine::start(folder.path()));
    let mut asker = python_command("asker.py")
        .args([&broker.port.to_string(), &asks.to_string()])
        .args(["cloister/n/ask", "cloister/n/answer/", "again"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to_asker = asker.stdin.take().unwrap();
    let output = asker.stdout.take().unwrap();
    let _asker = Process::guard(asker);
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    let heard = std::thread::spawn(move || {
        let mut heard: HashMap<String, Vec<String>> = HashMap::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let line: Value = serde_json::from_str(&line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_string();
            let answers = heard.entry(text("id")).or_default();
            answers.push(text("payload"));
            // What stands on `last` is a copy.
            if answers.len() == 1 && text("id") != "last" {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        heard
    });

    let mut seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    let mut random = move |below: u64| {
        // Marsaglia's xorshift.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut left = [kills_of_each; 3];
    let kills = 3 * kills_of_each;
    for kill in 0..kills {
        // There are to be new asks under way at each kill, also at the last: an asker that has all its answers ends.
        let steps = asks * (kill + 1) / kills - asks * kill / kills;
        writeln!(to_asker, "{steps}").unwrap();
        std::thread::sleep(Duration::from_millis(
            pause.start + random(pause.end - pause.start),
        ));
        let mut part = random(3) as usize;
        while left[part] == 0 {
            part = (part + 1) % 3;
        }
        left[part] -= 1;
        match part {
            0 => {
                bridge.process.kill();
                bridge = Bridge::start(&broker, folder.path(), version);
            }
            1 => {
                engine.take();
                engine = Some(Engine::start(folder.path()));
            }
            _ => {
                broker.down();
                std::thread::sleep(Duration::from_millis(random(500)));
                broker.up();
            }
        }
    }
    drop(to_asker);
    let before = came.load(Ordering::Relaxed);
    let (mut so_far, mut since) = (before, Instant::now());
    while !heard.is_finished() {
        if came.load(Ordering::Relaxed) > so_far {
            (so_far, since) = (came.load(Ordering::Relaxed), Instant::now());
        }
        assert!(
            since.elapsed() < SILENCE,
            "{so_far} asks are answered, {before} of them before the last kill, and the others never"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let heard = heard.join().unwrap();
    let mut repeats = 0;
    for n in 0..asks {
        let answers = heard
            .get(&format!("k{n}"))
            .unwrap_or_else(|| panic!("k{n} was never answered"));
        let answer: Value = serde_json::from_str(&answers[0]).unwrap();
        assert!(answer["text"].is_string(), "{answer}");
        for again in answers {
            // An answer that is erased by now is told to be.
            let again: Value = serde_json::from_str(again).unwrap();
            if again["error"]["code"] != "answered" {
                assert_eq!(again, answer, "k{n} was answered twice, differently");
            }
        }
        assert!(
            answers.len() <= 1 + 3 * kills_of_each,
            "k{n} came {} times",
            answers.len()
        );
        repeats += answers.len() - 1;
    }
    println!(
        "{asks} asks, each part killed {kills_of_each} times, {repeats} answers came again, {before} were answered before the last kill"
    );
}
