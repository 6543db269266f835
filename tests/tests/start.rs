//! What `cloister serve` cannot do is said at once, in one line.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use cloister_tests::parts::{program, smollm2};
use cloister_tests::serve::{engine_turn, refusal};

#[test]
fn a_port_in_use_is_named_and_nothing_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program("cloister"))
        .args(["serve", "--listen", &address.to_string(), "--state"])
        .arg(folder.path())
        .arg("--model")
        .arg(smollm2())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let port = address.port().to_string();
    assert!(said.contains(&port) && said.contains("in use"), "{said}");
}

#[test]
fn a_context_that_no_memory_holds_is_refused_by_its_number() {
    let _turn = engine_turn();
    let folder = tempfile::tempdir().unwrap();
    for ctx in ["100000000", "16000000", "4294967295"] {
        let state = folder.path().to_str().unwrap();
        let line = refusal(&smollm2(), &["--state", state, "--ctx", ctx]);
        assert!(line.contains("--ctx"), "{line}");
    }
}
