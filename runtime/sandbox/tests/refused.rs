//! The kernel itself refuses each process what it may not do, and lets it do the rest. Every refusal has its
//! control: the same attempt, by the same program without the seal, goes through.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const EVERYBODY: [&str; 8] = [
    "serve",
    "model-trial",
    "templates",
    "bridge",
    "panel",
    "quantize",
    "bench",
    "up",
];

/// Nobody may do this.
const FORBIDDEN: [&str; 38] = [
    "signal another process's thread",
    "have another process be signalled",
    "choose a signal for a file",
    "be signalled when a file is ready",
    "send over UDP",
    "look a name up",
    "listen",
    "listen on a Unix socket",
    "multipath TCP",
    "a raw socket",
    "a packet socket",
    "a netlink socket",
    "connect to another port",
    "connect to an abstract Unix socket",
    "send a message",
    "send to an address",
    "start a program",
    "become a program",
    "be traced",
    "read another process",
    "write a model",
    "cut a model short",
    "remove a model",
    "read the users",
    "read elsewhere",
    "write elsewhere",
    "read another process's files",
    "io_uring",
    "executable memory",
    "mount",
    "a namespace of users",
    "a namespace of mounts",
    "bpf",
    "perf",
    "keyrings",
    "a file in memory",
    "another host name",
    "set a device up",
];

/// What the kernel itself lets only root do: without a seal it is refused to others too.
const OF_ROOT: [&str; 7] = [
    "a raw socket",
    "a packet socket",
    "mount",
    "a namespace of mounts",
    "bpf",
    "perf",
    "another host name",
];

/// Where things are tried: folders, and who listens.
struct Place {
    folder: TempDir,
    broker: TcpListener,
    other: TcpListener,
    _udp: UdpSocket,
    abstract_name: String,
    _unix: (UnixListener, UnixListener, UnixDatagram),
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["models", "state", "elsewhere", "socket", "certificates"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in [
            "models/m.gguf",
            "elsewhere/secret",
            "elsewhere/blob",
            "certificates/ca.pem",
        ] {
            std::fs::write(at(name), "some bytes").unwrap();
        }
        std::os::unix::fs::symlink("../elsewhere/blob", at("models/linked.gguf")).unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind(other.local_addr().unwrap()).unwrap();
        let abstract_name = format!("cloister-sandbox-{}", other.local_addr().unwrap().port());
        let abstract_address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        Self {
            broker: TcpListener::bind("127.0.0.1:0").unwrap(),
            _udp: udp,
            other,
            abstract_name,
            _unix: (
                UnixListener::bind(at("socket/s.sock")).unwrap(),
                UnixListener::bind_addr(&abstract_address).unwrap(),
                UnixDatagram::bind(at("socket/datagrams")).unwrap(),
            ),
            folder,
        }
    }

    fn command(&self, who: &str, what: &str) -> Command {
        let test = std::env::current_exe().unwrap();
        let program: PathBuf = test.ancestors().nth(2).unwrap().join("examples/attempt");
        let mut command = Command::new(program);
        command
            .args([who, what])
            .env("PLACE", self.folder.path())
            .env(
                "BROKER",
                self.broker.local_addr().unwrap().port().to_string(),
            )
            .env("OTHER", self.other.local_addr().unwrap().port().to_string())
            .env("ABSTRACT", &self.abstract_name);
        command
    }

    fn attempt(&self, who: &str, what: &str) -> Output {
        self.command(who, what).output().unwrap()
    }

    /// What came of it: `done`, or the number of an error.
    fn outcome(&self, who: &str, what: &str) -> String {
        let output = self.attempt(who, what);
        assert!(output.status.success(), "{who}, {what}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn is_refused(&self, who: &str, what: &str) {
        let outcome = self.outcome(who, what);
        let refusals = [libc::EPERM, libc::EACCES].map(|number| number.to_string());
        // The C library has words of its own for a name that it cannot look up.
        let of_names = what == "look a name up" && outcome.contains("lookup");
        assert!(
            of_names || refusals.contains(&outcome),
            "{who}, {what}: {outcome}"
        );
    }
}

fn is_root() -> bool {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn nobody_may_do_what_nobody_needs() {
    let place = Place::new();
    for who in EVERYBODY {
        for what in FORBIDDEN {
            place.is_refused(who, what);
        }
    }
}

#[test]
fn the_same_attempts_go_through_without_a_seal() {
    for what in FORBIDDEN {
        // A fresh one: some of them remove a file.
        let outcome = Place::new().outcome("open", what);
        if !is_root() && OF_ROOT.contains(&what) {
            continue;
        }
        // A program that became /bin/true says no more.
        let done = if what == "become a program" {
            ""
        } else {
            "done"
        };
        assert_eq!(outcome, done, "{what}");
    }
}

#[test]
fn everybody_may_do_what_they_need_and_the_others_may_not() {
    let place = Place::new();
    let all = |names: &'static [&'static str]| names;
    let needs: [(&str, &[&str]); 14] = [
        (
            "read a model",
            all(&["serve", "model-trial", "quantize", "bench"]),
        ),
        (
            "read a model through a link",
            all(&["serve", "model-trial", "quantize", "bench"]),
        ),
        (
            "list the models",
            all(&["serve", "model-trial", "quantize", "bench"]),
        ),
        ("keep something", all(&["serve", "bridge", "quantize"])),
        ("read what is free", all(&EVERYBODY)),
        ("not wait for a file", all(&EVERYBODY)),
        ("connect to the broker", all(&["bridge"])),
        ("connect to serve's socket", all(&["bridge", "panel"])),
        ("read a certificate again", all(&["bridge"])),
        ("use a device", all(&["panel"])),
        ("have a child", all(&["model-trial", "templates"])),
        ("have less memory", all(&["model-trial", "templates"])),
        (
            "a process's descriptor",
            all(&["model-trial", "templates", "up"]),
        ),
        ("signal another process", all(&["up"])),
    ];
    for (what, may) in needs {
        assert_eq!(place.outcome("open", what), "done", "{what}");
        for who in EVERYBODY {
            match may.contains(&who) {
                true => assert_eq!(place.outcome(who, what), "done", "{who}, {what}"),
                false => place.is_refused(who, what),
            }
        }
    }
}

#[test]
fn nothing_of_the_seal_is_taken_back() {
    let place = Place::new();
    for what in ["be dumped again", "core dumps again"] {
        assert_eq!(place.outcome("open", what), "done");
        for who in EVERYBODY {
            place.is_refused(who, what);
        }
    }
}

#[test]
fn who_listens_before_the_seal_answers_after_it() {
    let place = Place::new();
    for who in ["serve", "open"] {
        let mut command = place.command(who, "accept a connection");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let port: u16 = said.next().unwrap().unwrap().parse().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"word").unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"word");
        assert_eq!(said.next().unwrap().unwrap(), "done", "{who}");
        child.wait().unwrap();
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_of_another_abi_ends_the_process_or_is_refused() {
    let place = Place::new();
    assert_eq!(place.outcome("open", "a call of i386"), "done");
    for who in EVERYBODY {
        let output = place.attempt(who, "a call of i386");
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGSYS),
            "{who}: {output:?}"
        );
        place.is_refused(who, "a call of x32");
    }
    // Where the kernel has that ABI, it would answer.
    let outcome = place.outcome("open", "a call of x32");
    assert!(
        ["done", &libc::ENOSYS.to_string()].contains(&outcome.as_str()),
        "{outcome}"
    );
}

#[test]
fn it_needs_no_privileges_and_says_what_holds() {
    let place = Place::new();
    if is_root() {
        let folders = ["", "models", "state", "elsewhere", "socket", "certificates"];
        for folder in folders {
            std::os::unix::fs::chown(place.folder.path().join(folder), Some(65_534), Some(65_534))
                .unwrap();
        }
    }
    for who in EVERYBODY {
        let mut command = place.command(who, "send over UDP");
        if is_root() {
            use std::os::unix::process::CommandExt;
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        assert_eq!(
            output.stdout,
            format!("{}\n", libc::EPERM).as_bytes(),
            "{who}: {output:?}"
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("sealed: system calls filtered, files limited by Landlock "),
            "{said}"
        );
    }
}

/// What each version of Landlock brought: the attempt that it refuses, by whom, and the words about a kernel before it.
const BROUGHT: [(u32, &str, &str, &str); 5] = [
    (1, "serve", "read elsewhere", "no Landlock"),
    (3, "serve", "cut a model short", "before version 3"),
    (4, "bridge", "connect to another port", "before version 4"),
    (
        6,
        "bridge",
        "connect to an abstract Unix socket",
        "before version 6: abstract",
    ),
    (
        6,
        "model-trial",
        "signal another process",
        "before version 6: other processes",
    ),
];

#[test]
fn what_an_older_kernel_lacks_is_said_and_nothing_else_is_let_through() {
    let tried = |version: u32, who: &str, what: &str| {
        let place = Place::new();
        let mut command = place.command(who, what);
        let output = command
            .env("LANDLOCK", version.to_string())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout).trim() == "done", text(output.stderr))
    };
    for version in 0..=6 {
        for (brought, who, what, words) in BROUGHT {
            let (done, said) = tried(version, who, what);
            assert_eq!(done, version < brought, "{who}, {what}, version {version}");
            // Without any Landlock, one sentence says it all of files.
            let told = said.contains(words) || (version == 0 && said.contains("no Landlock"));
            assert_eq!(told, version < brought, "version {version}: {said}");
        }
        // What the filter of system calls refuses, it refuses on each of them.
        for what in ["send over UDP", "start a program", "io_uring"] {
            assert!(!tried(version, "bridge", what).0, "{what}");
        }
    }
}

#[test]
fn without_a_namespace_of_its_own_serve_says_so_and_opens_no_connection() {
    let place = Place::new();
    let mut command = place.command("serve", "connect to another port");
    let output = command.env("NO_NAMESPACES", "1").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("network namespace shared"), "{said}");
    assert!(said.contains("no network namespace of its own"), "{said}");
    assert_eq!(output.stdout, format!("{}\n", libc::EPERM).as_bytes());
}

#[test]
fn a_program_of_others_listens_where_it_is_told_and_opens_no_connection() {
    // Nobody's again at once.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let free = free.unwrap().port().to_string();
    let outcome = |who: &str, what: &str| {
        let place = Place::new();
        let output = place
            .command(who, what)
            .env("FREE", &free)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(outcome("foreign", "listen"), "done");
    for what in [
        "listen on a port of others",
        "connect to another port",
        "connect to serve's socket",
        "connect to an abstract Unix socket",
        "send over UDP",
        "send a message",
        "send to an address",
        "a raw socket",
        "a netlink socket",
        "multipath TCP",
        "io_uring",
        "write elsewhere",
        "remove a model",
        "signal another process",
        "read another process",
        "be traced",
        #[cfg(target_arch = "x86_64")]
        "a call of x32",
    ] {
        // Most kernels have none of it, and answer that only where no filter is asked before.
        let absent = what == "a call of x32";
        if !absent && (is_root() || !OF_ROOT.contains(&what)) {
            assert_eq!(outcome("open", what), "done", "{what}");
        }
        let refusals = [libc::EPERM, libc::EACCES].map(|number| number.to_string());
        let refused = outcome("foreign", what);
        assert!(refusals.contains(&refused), "{what}: {refused}");
    }
}
