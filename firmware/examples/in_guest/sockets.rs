//! A `serve` that starts again and again, in a folder that stays: the seal of the panel holds to that folder.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::simulations::is;

pub const SOCKET: &str = "/run/cloister/cloister.sock";

/// Starts it, before this process is sealed. Its folder is there, and its socket is not yet.
pub fn serve() -> Child {
    let folder = Path::new(SOCKET).parent().expect("a folder");
    fs::create_dir(folder).expect("as systemd-tmpfiles makes it");
    let program = std::env::current_exe().expect("this program");
    Command::new(program).arg("serve").spawn().expect("it runs")
}

/// What that process does.
pub fn listen_twice() {
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        let listener = UnixListener::bind(SOCKET).expect("a socket");
        let _ = listener.accept();
        fs::remove_file(SOCKET).expect("it is ours");
    }
}

/// Connects, sealed, to one after the other.
pub fn reach() {
    for which in [
        "serve is reached, sealed",
        "and so is one that was started again",
    ] {
        let began = Instant::now();
        let reached = loop {
            let tried = UnixStream::connect(SOCKET)
                .map(drop)
                .map_err(|error| error.kind());
            let waits = matches!(
                &tried,
                Err(ErrorKind::NotFound | ErrorKind::ConnectionRefused)
            );
            if !waits || began.elapsed() > Duration::from_secs(20) {
                break tried;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        is(reached, Ok(()), which);
        // Until that one has gone.
        std::thread::sleep(Duration::from_millis(100));
    }
}
