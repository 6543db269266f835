//! Wrong use of any program: one line on standard error, exit code 2, nothing started.

use std::process::Command;

use cloister_tests::parts::{program, smollm2};
use cloister_tests::up::failure;

#[test]
fn a_mistake_in_the_options_of_any_program_is_one_line_that_names_it() {
    let model = smollm2().display().to_string();
    for (name, arguments, named) in [
        ("cloister", "", "up, broker, serve, warm, pair, keys, bench"),
        ("cloister", "fly", "'fly'"),
        ("cloister", "up --port abc", "'abc'"),
        ("cloister", "up --model a --models b", "'--models <DIR>'"),
        ("cloister", "up --model a --node a/b", "a/b"),
        ("cloister", "serve", "--model"),
        ("cloister", "serve --slots 100", "'100'"),
        ("cloister", "serve --kv-type x", "q8_0"),
        ("cloister", "serve --model m --threads 100000", "threads"),
        ("cloister", "serve --model m --idle-unload soon", "5m"),
        ("cloister", "bench", "--model"),
        ("cloister", "bench --model m -p 0 -n 0", "-p 0"),
        ("cloister", "bench --model m -t 100000", "threads"),
        ("cloister", "bench --model m --floor 4:2", "--against"),
        ("cloister", "bench --model m --batch 4 -p 8", "--n-prompt"),
        ("cloister", "bench --model m --batch 1 -n 0", "--n-gen"),
        (
            "cloister",
            "bench --model m --batch 4 --against /nowhere",
            "'/nowhere'",
        ),
        (
            "cloister",
            "bench --model m --batch 4 --against /etc/passwd",
            "no program",
        ),
        (
            "cloister",
            "bench --model m --batch 4 --against /bin/true --floor 8:2",
            "a batch of 8",
        ),
        ("cloister", "warm", "<FILE>"),
        ("cloister-bridge", "--brokr x", "'--brokr'"),
        ("cloister-bridge", "--mqtt-version 4", "3.1.1"),
        ("cloister-panel", "--sockt x", "'--sockt'"),
        ("cloister-panel", "probe --board toaster", "raspberry-pi-5"),
        ("cloister-quantize", "", "inspect, convert"),
        ("cloister-quantize", "convert a", "--type"),
        ("cloister-quantize", "convert a b --type Q9", "Q4_K_M"),
    ] {
        let arguments = arguments.split_whitespace();
        let mut command = Command::new(program(name));
        command.args(arguments.map(|word| if word == "m" { model.as_str() } else { word }));
        let (code, stderr) = failure(&mut command);
        assert_eq!(code, Some(2), "{command:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
        assert!(
            stderr.starts_with(&format!("{name}: ")) && stderr.contains(named),
            "{command:?}: {stderr}"
        );
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    for name in [
        "cloister",
        "cloister-bridge",
        "cloister-panel",
        "cloister-quantize",
    ] {
        for option in ["--help", "--version"] {
            let output = Command::new(program(name)).arg(option).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{name} {option}");
            assert!(!output.stdout.is_empty(), "{name} {option}");
            assert!(output.stderr.is_empty(), "{name} {option}");
        }
    }
}
