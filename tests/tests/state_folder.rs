//! The state folder: where it is, and who may look into it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, until};
use cloister_tests::serve::engine_turn;
use cloister_tests::traces::files_below;
use cloister_tests::up::{Up, failure};

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

#[test]
fn what_a_box_writes_nobody_else_can_read_even_in_a_folder_that_was_open() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    // As one of before: open to everybody, with a journal that is.
    for (path, open) in [(&state, 0o755), (&state.join("journal.sqlite"), 0o644)] {
        if path != &state {
            std::fs::write(path, "").unwrap();
        }
        std::fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
    }
    let mut command = cloister_tests::up::command(&state);
    command.args(["--port", "0", "--lan-broker"]);
    // As a unit may have it: the group may use the socket.
    // SAFETY: umask is async-signal-safe, as what runs between fork and exec must be.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o002);
            Ok(())
        });
    }
    let up = Up::start_command(command, folder);
    up.ask_over_mqtt(&serde_json::json!({"id": "1", "prompt": "Hi.", "max_tokens": 2}));

    let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o750);
    assert_eq!(mode(&state.join("cloister.sock")), 0o775);
    let files = files_below(&state);
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    for known in [
        "journal.sqlite",
        "journal.sqlite-wal",
        "bridge-login",
        "mqtt-login",
        "key.pem",
    ] {
        assert!(
            names.iter().any(|name| *name == known),
            "{known} in {names:?}"
        );
    }
    for file in files {
        assert_eq!(mode(&file) & 0o077, 0, "{}", file.display());
    }
}

#[test]
fn a_folder_that_everybody_may_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
    let (code, said) = failure(&mut cloister_tests::up::command(folder.path()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("everybody may write"), "{said}");
}
