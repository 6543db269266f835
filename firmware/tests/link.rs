//! What is told to `serve`, and when. Its side is a listener that counts, as a real one that starts anew is heard of in
//! `tests/tests/panel_process.rs`, and cannot tell how soon.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use cloister_control::thermal::{Limits, Throttle};
use cloister_control::units::{Celsius, Duty};
use cloister_control::{Engine, Phase};
use cloister_panel::board::Board;
use cloister_panel::desk::Desk;
use cloister_panel::link::{Heard, Link};
use cloister_program::panel::PanelReport;
use cloister_program::readiness::Readiness;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Takes one request; gives its body.
async fn next(listener: &UnixListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut reader = BufReader::new(&mut stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        match line.to_ascii_lowercase().split_once(": ") {
            Some(("content-length", number)) => length = number.trim().parse().unwrap(),
            None if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn a_serve_that_was_gone_is_told_all_again_though_nothing_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let link = Link::to(socket);
    let (_wishes_by, wishes) = watch::channel(PanelReport::default());
    let (heard_by, heard) = watch::channel(Some(Default::default()));
    let told = async {
        next(&listener).await;
        heard_by.send_replace(None);
        // What is as before is told after 10 s.
        let again = tokio::time::timeout(Duration::from_secs(8), next(&listener)).await;
        again.expect("at once");
        // And once only.
        let more = tokio::time::timeout(Duration::from_secs(2), next(&listener)).await;
        assert!(more.is_err(), "{more:?}");
    };
    tokio::select! {
        () = link.tell(wishes, heard) => unreachable!("it has no end"),
        () = told => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_serve_that_does_otherwise_is_told_again_before_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let link = Link::to(socket);
    let wish = PanelReport {
        private: Some(false),
        throttle: 2.try_into().unwrap(),
        ..PanelReport::default()
    };
    let (_wishes_by, wishes) = watch::channel(wish);
    let says = |throttle: u8, private| {
        let said = serde_json::json!({"status": "ok", "throttle": throttle, "private": private});
        Some(serde_json::from_value::<Heard>(said).unwrap())
    };
    let (heard_by, heard) = watch::channel(says(2, Some(false)));
    let told = async {
        next(&listener).await;
        for (throttle, private, within) in [
            (2, Some(false), 9..11),
            (0, Some(false), 4..5),
            (3, Some(false), 4..5),
            (2, None, 4..5),
            (2, Some(true), 4..5),
        ] {
            heard_by.send_replace(says(throttle, private));
            let began = tokio::time::Instant::now();
            next(&listener).await;
            let after = began.elapsed().as_secs();
            assert!(within.contains(&after), "{throttle} {private:?}: {after} s");
        }
    };
    tokio::select! {
        () = link.tell(wishes, heard) => unreachable!("it has no end"),
        () = told => {}
    }
}

/// Takes requests: tells a state to who asks for events, and gives the others this answer, or none.
async fn serve(listener: &UnixListener, answers: &Cell<Option<&str>>) {
    let mut open = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8192];
        let n = stream.read(&mut request).await.unwrap_or(0);
        let head = if request[..n].starts_with(b"GET /api/events") {
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
             event: state\ndata: {\"status\": \"ok\", \"private\": false}\n\n"
        } else {
            answers.get().unwrap_or("")
        };
        // Who gave up is in the queue all the same.
        let _ = stream.write_all(head.as_bytes()).await;
        open.push(stream);
    }
}

const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

#[tokio::test]
async fn a_serve_that_hangs_is_told_from_one_that_is_away_until_it_answers_whatever_events_come() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (link, answers) = (Link::to(socket), Cell::new(Some(TAKEN)));
    let (_wishes_by, wishes) = watch::channel(PanelReport::default());
    let (heard_by, mut heard) = watch::channel(None);
    let heard_too = heard.clone();
    let ready = Engine::Serving {
        phase: Phase::Idle,
        private: Some(false),
        throttle: Throttle::None,
    };
    let mut until = async |wanted: Engine| {
        let is = |of: &Option<Heard>| of.as_ref().map(Heard::engine) == Some(wanted);
        heard.wait_for(is).await.unwrap();
    };
    let checks = async {
        until(ready).await;
        answers.set(None);
        tokio::time::pause();
        until(Engine::Silent).await;
        let well = tokio::time::timeout(Duration::from_secs(120), until(ready)).await;
        assert!(well.is_err(), "by its events alone");
        answers.set(Some(TAKEN));
        until(ready).await;
    };
    tokio::select! {
        () = link.listen(heard_by) => unreachable!("it has no end"),
        () = link.tell(wishes, heard_too) => unreachable!("it has no end"),
        () = serve(&listener, &answers) => unreachable!("it has no end"),
        () = checks => {}
    }
}

#[tokio::test]
async fn a_serve_that_refuses_what_the_panel_says_is_a_problem_that_the_light_shows() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (link, answers) = (Arc::new(Link::to(socket)), Cell::new(Some(TAKEN)));
    let limits = Limits {
        fan_starts: Celsius(50.0),
        fan_full: Celsius(67.0),
        throttle: Celsius(72.0),
        critical: Celsius(78.0),
        limit: Celsius(80.0),
        soc_slows: Celsius(60.0),
        fan_least: Duty(77),
    };
    let board = Board::bare("none".to_owned(), limits);
    let desk = Desk::of(board, None, Readiness::to_nobody());
    let mut reports = desk.reports();
    let mut until = async |light: &str, problems: &[&str]| {
        let is = |report: &PanelReport| {
            let said = report.board.problems.iter();
            let said: Vec<_> = said
                .map(|of| format!("{} {}", of.what.as_str(), of.why.as_str()))
                .collect();
            report
                .board
                .light
                .as_ref()
                .is_some_and(|of| of.as_str() == light)
                && said == problems
        };
        reports.wait_for(is).await.unwrap();
    };
    let checks = async {
        until("ready", &[]).await;
        tokio::time::pause();
        answers.set(Some(REFUSED));
        until("broken", &["serve refuses"]).await;
        answers.set(Some(TAKEN));
        until("ready", &[]).await;
    };
    tokio::select! {
        () = desk.run(link, std::future::pending()) => unreachable!("it has no end"),
        () = serve(&listener, &answers) => unreachable!("it has no end"),
        () = checks => {}
    }
}
