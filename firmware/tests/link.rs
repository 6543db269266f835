//! What is told to `serve`, and when. Its side is a listener that counts, as a real one that starts anew is heard of in
//! `tests/tests/panel_process.rs`, and cannot tell how soon.

use std::time::Duration;

use cloister_control::{Engine, Phase};
use cloister_panel::link::{Heard, Link};
use cloister_program::panel::PanelReport;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
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

/// Takes the request for events, and tells one.
async fn tell_state(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let event = "event: state\ndata: {\"status\": \"ok\"}\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    // Who gave up is in the queue all the same.
    let _ = stream.write_all(format!("{head}{event}").as_bytes()).await;
    stream
}

#[tokio::test]
async fn a_serve_that_hangs_is_told_from_one_that_is_away_and_heard_anew_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let link = Link::to(socket);
    let (_wishes_by, wishes) = watch::channel(PanelReport::default());
    let (heard_by, mut heard) = watch::channel(None);
    let heard_too = heard.clone();
    let ready = Engine::Serving {
        phase: Phase::Idle,
        private: false,
    };
    let mut until = async |wanted: Engine| {
        let is = |of: &Option<Heard>| of.as_ref().map(Heard::engine) == Some(wanted);
        heard.wait_for(is).await.unwrap();
    };
    let checks = async {
        let _open = tell_state(&listener).await;
        until(ready).await;
        // What it is told now it takes from nobody, for as long as that may take.
        tokio::time::pause();
        tokio::select! {
            () = link.tell(wishes, heard_too) => unreachable!("it has no end"),
            () = until(Engine::Silent) => {}
        }
        tokio::time::resume();
        loop {
            let _stream = tell_state(&listener).await;
            if tokio::time::timeout(Duration::from_millis(200), until(ready))
                .await
                .is_ok()
            {
                break;
            }
        }
    };
    tokio::select! {
        () = link.listen(heard_by) => unreachable!("it has no end"),
        () = checks => {}
    }
}
