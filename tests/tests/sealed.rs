//! The running programs are sealed, thread by thread, as the kernel tells it; what the seal refuses is tried in
//! `runtime/sandbox/tests`.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, children_of, until};
use cloister_tests::serve::{Serve, question};
use cloister_tests::up::Up;

/// What a file below `/proc/ID` says.
fn of_process(id: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default()
}

/// The value of a line of a `status` file.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{status}"))
        .trim()
}

/// Fails unless every thread of a process is sealed; gives how many there are.
fn threads_sealed(id: u32) -> usize {
    threads_sealed_but("0000000000000000", id)
}

/// The same, but for these capabilities.
fn threads_sealed_but(capabilities: &str, id: u32) -> usize {
    let tasks = Path::new("/proc").join(id.to_string()).join("task");
    let threads: Vec<_> = tasks.read_dir().unwrap().flatten().collect();
    for thread in &threads {
        // One that has just ended needs no seal.
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        for (name, sealed) in [
            ("Seccomp:", "2"),
            ("Seccomp_filters:", "2"),
            ("NoNewPrivs:", "1"),
            ("CapInh:", "0000000000000000"),
            ("CapPrm:", capabilities),
            ("CapEff:", capabilities),
            ("CapBnd:", "0000000000000000"),
            ("CapAmb:", "0000000000000000"),
        ] {
            assert_eq!(field(&status, name), sealed, "{name} in\n{status}");
        }
    }
    let limits = of_process(id, "limits");
    let core: Vec<&str> = field(&limits, "Max core file size")
        .split_whitespace()
        .collect();
    assert_eq!(core[..2], ["0", "0"], "{limits}");
    threads.len()
}

fn network(id: u32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap()
}

/// The process of this name among the children of a process and theirs.
fn named(id: u32, name: &str) -> u32 {
    let children = children_of(id);
    let grandchildren = children.iter().flat_map(|(child, _)| children_of(*child));
    let mut all = grandchildren.chain(children.clone());
    let found = all.find(|(_, known)| known == name);
    found.unwrap_or_else(|| panic!("there is no {name}")).0
}

#[test]
fn every_thread_of_up_and_of_what_it_starts_is_sealed() {
    let up = Up::start(&[]);
    let id = up.process.0.id();
    let ask = question("Write a long story about a garden.", 8);
    up.ask_over_mqtt(&serde_json::json!({"id": "1", "messages": ask["messages"], "max_tokens": 8}));
    let [serve, trial, templates, bridge] =
        ["cloister", "model-trial", "templates", "cloister-bridge"].map(|name| named(id, name));
    assert!(
        threads_sealed(serve) >= 4,
        "tokio's, the engine's and ggml's"
    );
    threads_sealed(trial);
    threads_sealed(templates);
    for (renderer, _) in children_of(templates) {
        threads_sealed(renderer);
    }
    assert!(threads_sealed(bridge) >= 2, "its own and the journal's");
    // `serve` has a network of its own, in which there is nothing but a loopback that is down.
    assert_ne!(network(serve), network(id));
    let interfaces = of_process(serve, "net/dev");
    let names: Vec<&str> = interfaces
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .collect();
    assert!(names.iter().all(|name| name.trim() == "lo"), "{interfaces}");
    // As root its broker is another user's, and it ends it all the same.
    // SAFETY: it takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let kill = ["0000000000000000", "0000000000000020"][usize::from(root)];
    until("up is sealed, too", || {
        (field(&of_process(id, "status"), "Seccomp:") == "2").then_some(())
    });
    assert_eq!(threads_sealed_but(kill, id), 1);
    // The broker, a program of others, is refused connections.
    let broker = of_process(named(id, "mosquitto"), "status");
    for (name, sealed) in [("Seccomp:", "2"), ("NoNewPrivs:", "1")] {
        assert_eq!(field(&broker, name), sealed, "{broker}");
    }
    // What is looked at would show a process that is not sealed.
    let not_sealed = of_process(std::process::id(), "status");
    assert_eq!(field(&not_sealed, "Seccomp:"), "0");
    assert_eq!(field(&not_sealed, "NoNewPrivs:"), "0");
}

#[test]
fn a_conversion_is_sealed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut converting = Process::spawn(
        Command::new(program("cloister-quantize"))
            .arg("convert")
            .arg(smollm2())
            .arg(folder.path().join("out.gguf"))
            .args(["--type", "Q8_0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let id = converting.0.id();
    until("it writes", || {
        let written = folder.path().join("out.gguf.partial").exists();
        assert!(
            written || converting.runs(),
            "it ended before it was looked at"
        );
        written.then_some(())
    });
    threads_sealed(id);
    let status = converting.0.wait().unwrap();
    assert!(status.success() && folder.path().join("out.gguf").exists());
}

/// Starts a command where cores may be dumped, and has it crash once `ready` says so.
fn crash(
    command: &mut Command,
    folder: &Path,
    ready: impl FnOnce(&Process),
) -> (ExitStatus, usize) {
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: setrlimit may be called between fork and exec, and reads what lives for the call.
    unsafe {
        command.pre_exec(
            move || match libc::setrlimit(libc::RLIMIT_CORE, &raw const all) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        )
    };
    let mut process = Process::spawn(command);
    ready(&process);
    // Of SIGSEGV the standard library catches the first.
    process.signal(libc::SIGABRT);
    let status = process.0.wait().unwrap();
    let cores = folder.read_dir().unwrap().flatten();
    let cores = cores.filter(|file| file.file_name().to_string_lossy().starts_with("core"));
    (status, cores.count())
}

#[test]
fn a_crash_of_serve_leaves_no_core() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Command::new(program("cloister"));
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--state"])
        .arg(folder.path().join("state"))
        .arg("--model")
        .arg(smollm2());
    let socket = folder.path().join("state/cloister.sock");
    let (status, cores) = crash(&mut serve, folder.path(), |process| {
        let sealed = || field(&of_process(process.0.id(), "status"), "Seccomp:") == "2";
        until("it is sealed", || {
            (socket.exists() && sealed()).then_some(())
        });
    });
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(
        !status.core_dumped() && cores == 0,
        "{status:?}, {cores} files"
    );

    // The same crash of a program that is not sealed leaves one.
    let mut sleep = Command::new("sleep");
    let (status, _) = crash(sleep.arg("60"), folder.path(), |process| {
        until("it runs", || {
            (of_process(process.0.id(), "comm").trim() == "sleep").then_some(())
        });
    });
    assert!(
        status.core_dumped(),
        "{status:?}: cores are not dumped here at all"
    );
}

#[test]
fn a_model_that_comes_into_the_folder_later_is_served_and_one_elsewhere_is_not() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(smollm2(), at("first.gguf")).unwrap();
    let serve = Serve::start(folder.path(), &["--ctx", "256"]);
    std::fs::copy(smollm2(), at("second.gguf")).unwrap();
    std::fs::copy(smollm2(), elsewhere.path().join("third.gguf")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("third.gguf"), at("third.gguf")).unwrap();
    let asked = |model: &str| {
        let mut request = question("Hello?", 2);
        request["model"] = model.into();
        serve.chat(&request)
    };
    for model in ["first", "second"] {
        assert_eq!(asked(model).status, 200, "{model}");
    }
    let refused = asked("third");
    assert!(
        refused.status >= 400 && refused.body.contains("third.gguf"),
        "{}",
        refused.body
    );
    assert_eq!(asked("first").status, 200);
}
