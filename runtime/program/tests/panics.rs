//! A panic tells no text of users, whatever the text was that it stumbled over.

use std::process::Command;

/// A word that is nowhere else.
const WORD: &str = "quuxzanzibar";

/// Which panic to have, in a process that the tests start.
const PANIC: &str = "CLOISTER_TEST_PANIC";

#[test]
fn in_a_process_of_its_own() {
    let Ok(how) = std::env::var(PANIC) else {
        return; // Only the other tests ask for it.
    };
    let (hook, way) = how.split_once(' ').unwrap();
    if hook == "ours" {
        cloister_program::panics::tell_only_where("box");
    }
    let prompt = std::hint::black_box(format!("{WORD} ü and more"));
    match way {
        "cut" => drop(prompt[..WORD.len() + 2].to_owned()),
        "parse" => drop(prompt.parse::<Unreadable>().unwrap()),
        "expect" => panic!("did not expect {prompt}"),
        _ => unreachable!(),
    }
}

#[derive(Debug)]
struct Unreadable;

impl std::str::FromStr for Unreadable {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Err(text.to_owned())
    }
}

/// Everything that a process says in which this happens.
fn said(how: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_a_process_of_its_own", "--nocapture"])
        .env(PANIC, how)
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{how}: it did not panic");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_panic_is_told_by_its_place_alone() {
    for way in ["cut", "parse", "expect"] {
        let ours = said(&format!("ours {way}"));
        assert!(ours.contains("box: a fault of its own at "), "{ours}");
        assert!(ours.contains("tests/panics.rs:"), "{ours}");
        assert!(!ours.contains(WORD), "{way}: {ours}");
        // The library's own way would tell it.
        let librarys = said(&format!("the-librarys {way}"));
        assert!(librarys.contains(WORD), "{way}: {librarys}");
    }
}
