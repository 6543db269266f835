//! `cloister serve` without `--state`: its folder does not depend on where it was started.

use std::process::{Command, Stdio};

use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, until};
use cloister_tests::serve::engine_turn;

#[test]
fn without_a_state_folder_serve_takes_the_one_in_its_users_home() {
    let _turn = engine_turn();
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut serve = Process::spawn(
        Command::new(program("cloister"))
            .args(["serve", "--listen", "127.0.0.1:0", "--model"])
            .arg(smollm2())
            .current_dir(&elsewhere)
            .env("HOME", home.path())
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null()),
    );
    let socket = home.path().join(".local/state/cloister/cloister.sock");
    until("serve listens in its user's home", || {
        assert!(serve.runs(), "serve ended while it started");
        socket.exists().then_some(())
    });
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}
