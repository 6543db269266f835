//! Which doors to a connection the shipped programs hold at all: the functions of the C library by which one could be
//! opened or a program started, and system calls that go around it. Each has its reason here; one that is new fails
//! the test. That the kernel refuses them when they are tried is for `runtime/sandbox/tests`.

use std::collections::BTreeMap;
use std::process::Command;

use cloister_tests::parts::program;

/// Functions that open connections, look names up, load code or start programs, by how their names begin.
const DOORS: [&str; 38] = [
    "socket",
    "connect",
    "bind",
    "listen",
    "accept",
    "send",
    "recvmsg",
    "recvmmsg",
    "getaddrinfo",
    "gethostby",
    "getnameinfo",
    "getservby",
    "getifaddrs",
    "if_nameto",
    "res_",
    "__res",
    "ns_",
    "dlopen",
    "dlmopen",
    "exec",
    "fexecve",
    "posix_spawn",
    "pidfd_",
    "fork",
    "vfork",
    "clone",
    "system",
    "popen",
    "syscall",
    "io_uring",
    "ptrace",
    "process_vm",
    "syslog",
    "vsyslog",
    "openlog",
    "rcmd",
    "unshare",
    "setns",
];

/// Programs with the doors that they hold and why.
const KNOWN: [(&str, &[(&str, &str)]); 4] = [
    (
        "cloister",
        &[
            ("accept4", "who asks"),
            ("bind", "the port and the socket, before the seal"),
            ("listen", "the port and the socket, before the seal"),
            (
                "socket",
                "the port and the socket, before the seal; `up`, which is not sealed, looks whether Mosquitto listens",
            ),
            (
                "connect",
                "the socket of sd_notify and a stale socket, before the seal; `up` as above",
            ),
            ("send", "to who is connected"),
            (
                "sendmsg",
                "the standard library's, with what a child is started with: `up` alone",
            ),
            ("recvmsg", "as above"),
            (
                "socketpair",
                "tokio wakes itself by one; the standard library's start of a child",
            ),
            (
                "dlopen",
                "ggml's, for backends that are built apart: there are none",
            ),
            (
                "execlp",
                "ggml's, for a debugger when it aborts: our callback is in its place",
            ),
            ("execvp", "`up` starts its children"),
            (
                "fork",
                "the helper that tries models out, before the seal; the standard library's start of a child",
            ),
            ("pidfd_getpid", "the standard library's start of a child"),
            ("pidfd_spawnp", "the standard library's start of a child"),
            (
                "posix_spawn_file_actions_addchdir",
                "the standard library's start of a child",
            ),
            (
                "posix_spawn_file_actions_addchdir_np",
                "the standard library's start of a child",
            ),
            (
                "posix_spawn_file_actions_adddup2",
                "the standard library's start of a child",
            ),
            (
                "posix_spawn_file_actions_destroy",
                "the standard library's start of a child",
            ),
            (
                "posix_spawn_file_actions_init",
                "the standard library's start of a child",
            ),
            (
                "posix_spawnattr_destroy",
                "the standard library's start of a child",
            ),
            (
                "posix_spawnattr_init",
                "the standard library's start of a child",
            ),
            (
                "posix_spawnattr_setflags",
                "the standard library's start of a child",
            ),
            (
                "posix_spawnattr_setpgroup",
                "the standard library's start of a child",
            ),
            (
                "posix_spawnattr_setsigdefault",
                "the standard library's start of a child",
            ),
            ("posix_spawnp", "the standard library's start of a child"),
            (
                "syscall",
                "calls without a function: futex, Landlock, seccomp, capset",
            ),
            ("unshare", "the empty network namespace"),
        ],
    ),
    (
        "cloister-bridge",
        &[
            (
                "socket",
                "the broker, the socket of `serve`; that of sd_notify before the seal",
            ),
            (
                "connect",
                "the broker, the socket of `serve`; that of sd_notify before the seal",
            ),
            ("send", "to who is connected"),
            ("socketpair", "tokio wakes itself by one"),
            (
                "bind",
                "the standard library's and tokio's, for an address of one's own: refused",
            ),
            (
                "getaddrinfo",
                "tokio's and the MQTT library's, for names: there are only addresses, and no UDP to ask by",
            ),
            ("__res_init", "as above"),
            (
                "dlopen",
                "SQLite's, for extensions: not turned on, and no file of theirs could be read",
            ),
            (
                "syscall",
                "calls without a function: futex, Landlock, seccomp, capset",
            ),
            (
                "unshare",
                "of the sandbox's code, which does not call it here",
            ),
        ],
    ),
    (
        "cloister-panel",
        &[
            (
                "socket",
                "the socket of `serve`; that of sd_notify before the seal",
            ),
            (
                "connect",
                "the socket of `serve`; that of sd_notify before the seal",
            ),
            ("send", "to who is connected"),
            ("socketpair", "tokio wakes itself by one"),
            (
                "syscall",
                "calls without a function: futex, Landlock, seccomp, capset",
            ),
            (
                "unshare",
                "of the sandbox's code, which does not call it here",
            ),
        ],
    ),
    (
        "cloister-quantize",
        &[
            (
                "dlopen",
                "ggml's, for backends that are built apart: there are none",
            ),
            ("execlp", "ggml's, for a debugger when it aborts: refused"),
            ("fork", "as above"),
            (
                "syscall",
                "calls without a function: futex, Landlock, seccomp, capset",
            ),
            (
                "unshare",
                "of the sandbox's code, which does not call it here",
            ),
        ],
    ),
];

fn output_of(command: &mut Command) -> String {
    let output = command
        .output()
        .expect("Debian's binutils are installed, as g++ needs them");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The functions that a program takes from its libraries and that are a door.
fn doors(name: &str) -> Vec<String> {
    let text = output_of(
        Command::new("nm")
            .args(["-D", "--undefined-only"])
            .arg(program(name)),
    );
    let symbols = text
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let names = symbols.map(|symbol| symbol.split('@').next().expect("the first part").to_owned());
    let mut found: Vec<_> = names
        .filter(|name| DOORS.iter().any(|door| name.starts_with(door)))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn each_door_that_a_program_holds_is_known_and_has_its_reason() {
    for (name, known) in KNOWN {
        let mut expected: Vec<&str> = known.iter().map(|(door, _)| *door).collect();
        expected.sort();
        assert_eq!(doors(name), expected, "{name}");
    }
}

#[test]
fn no_program_calls_the_kernel_around_the_c_library() {
    for (name, _) in KNOWN {
        let text = output_of(
            Command::new("objdump")
                .args(["-d", "-C", "--no-show-raw-insn"])
                .arg(program(name)),
        );
        let mut function = "";
        let mut sites: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines() {
            if let Some(head) = line.strip_suffix(">:") {
                function = head;
            }
            let instruction = line.split('\t').nth(1).unwrap_or_default();
            if ["syscall", "sysenter", "svc", "int    $0x80"]
                .iter()
                .any(|call| instruction.starts_with(call))
            {
                *sites.entry(function).or_default() += 1;
            }
        }
        assert!(function.len() > 10, "{name}: its functions were not seen");
        assert!(sites.is_empty(), "{name}: {sites:?}");
    }
}

#[test]
fn a_client_that_is_planted_would_be_seen() {
    // The tests' own program holds doors that the box's programs must not.
    let own = std::env::current_exe().expect("it runs");
    let text = output_of(Command::new("nm").args(["-D", "--undefined-only"]).arg(own));
    assert!(
        text.contains("getaddrinfo") || text.contains("posix_spawnp"),
        "{text}"
    );
    // The C library itself calls the kernel, and objdump shows where.
    let libc = output_of(Command::new("ldd").arg(program("cloister")));
    let path = libc
        .lines()
        .find_map(|line| line.trim().strip_prefix("libc.so.6 => ")?.split(' ').next());
    let text = output_of(
        Command::new("objdump")
            .args(["-d", "--no-show-raw-insn"])
            .arg(path.expect("it is linked")),
    );
    assert!(text.lines().any(|line| {
        line.split('\t')
            .nth(1)
            .is_some_and(|i| i.starts_with("syscall") || i.starts_with("svc"))
    }));
}
