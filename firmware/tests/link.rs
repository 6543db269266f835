//! What is told to `serve`, and when. Its side is a listener that counts, as a real one that starts anew is heard of in
//! `tests/tests/panel_process.rs`, and cannot tell how soon.

use std::time::Duration;

use cloister_panel::link::Link;
use cloister_program::panel::PanelReport;
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
