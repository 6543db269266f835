//! Nothing leaves: in a network whose only way out is a sinkhole, the whole appliance sends to its broker and its
//! clients alone, and what somebody plants there is seen. Where such a network cannot be made, these fail.

use std::process::{Command, Output};

use cloister_tests::parts::program;
use cloister_tests::serve::engine_turn;

fn sinkhole(arguments: &[&str]) -> (Option<i32>, String) {
    let _turn = engine_turn();
    let command = Command::new(program("examples/sinkhole"))
        .args(arguments)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = command.expect("the example is built");
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("packets that left the box"), "{said}");
    (status.code(), said)
}

#[test]
fn from_its_start_to_its_end_the_box_sends_to_its_broker_and_its_clients_alone() {
    let (code, said) = sinkhole(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" 0 that were not to leave"), "{said}");
}

#[test]
#[ignore = "takes minutes"]
fn a_planted_leak_is_seen_whichever_way_it_takes() {
    for (leak, line) in [
        ("dns", "LEAK    DNS 10.77.0.2:"),
        ("udp", "LEAK    UDP 10.77.0.2:"),
        ("tcp", "LEAK    TCP 10.77.0.2:"),
    ] {
        let (code, said) = sinkhole(&["--leak", leak]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(line), "{said}");
        assert!(!said.contains(" 0 that were not to leave"), "{said}");
    }
}
