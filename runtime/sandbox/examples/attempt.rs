//! Seals itself as one of the processes, or not at all, then tries one thing and says how that went: `done`, or
//! the number of the error. For `tests/refused.rs`.
//!
//!     attempt WHO WHAT    WHO: serve, model-trial, templates, bridge, panel, quantize, bench, up,
//!                          `foreign` for a program of others that listens, or `open` for no seal

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_sandbox::processes;

/// Where the test has put what may be used and what not: `models`, `state`, `elsewhere` and sockets.
fn place(name: &str) -> PathBuf {
    Path::new(&std::env::var_os("PLACE").expect("the test says where")).join(name)
}

fn port(name: &str) -> u16 {
    let port = std::env::var(name).expect("the test says which");
    port.parse().expect("a port is a number")
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, who, what] = &arguments[..] else {
        panic!("attempt WHO WHAT");
    };
    // What is opened before the seal is there after it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let parent = std::os::unix::process::parent_id();
    let policy = match who.as_str() {
        "open" => None,
        "serve" => Some(processes::serve(&[&place("models")], &place("state"))),
        "model-trial" => Some(processes::model_trial(&[&place("models")])),
        "templates" => Some(processes::templates()),
        "bridge" => {
            let certificate = place("certificates/ca.pem");
            let socket = place("socket/s.sock");
            let files = [certificate.as_path()];
            Some(processes::bridge(
                port("BROKER"),
                &socket,
                &place("state"),
                &files,
            ))
        }
        "panel" => Some(processes::panel(&place("socket/s.sock"))),
        "quantize" => Some(processes::quantize(
            &[&place("models")],
            Some(&place("state/out.gguf")),
        )),
        "bench" => Some(processes::bench(&place("models"))),
        "up" => Some(processes::up()),
        "foreign" => {
            cloister_sandbox::listens_only(&[0]).expect("it can be confined");
            None
        }
        other => panic!("{other} is nobody"),
    };
    if std::env::var_os("NO_NAMESPACES").is_some() {
        refuse_namespaces();
    }
    let landlock = std::env::var("LANDLOCK").map(|version| version.parse().expect("a number"));
    if let Some(mut policy) = policy {
        if let Ok(version) = landlock {
            policy = policy.landlock_up_to(version);
        }
        let seal = policy.seal().expect("it can be sealed");
        eprintln!("{}", seal.line());
    }
    match attempt(what, listener, parent) {
        Ok(()) => println!("done"),
        Err(error) => match error.raw_os_error() {
            Some(number) => println!("{number}"),
            None => println!("{error}"),
        },
    }
}

/// As a kernel does that lets no users make namespaces.
fn refuse_namespaces() {
    use seccompiler::{SeccompAction, SeccompFilter};
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let rules = [(libc::SYS_unshare, Vec::new())].into();
    let arch = std::env::consts::ARCH.try_into().expect("it is known");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch);
    let program: seccompiler::BpfProgram = filter.and_then(TryInto::try_into).expect("it is sound");
    // SAFETY: prctl takes numbers only here; without it only root may have filters.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    seccompiler::apply_filter(&program).expect("it is applied");
}

fn attempt(what: &str, listener: TcpListener, parent: u32) -> io::Result<()> {
    match what {
        // The network.
        "connect to the broker" => TcpStream::connect(("127.0.0.1", port("BROKER"))).map(drop),
        "connect to another port" => TcpStream::connect(("127.0.0.1", port("OTHER"))).map(drop),
        "send over UDP" => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket
                .send_to(b"word", ("127.0.0.1", port("OTHER")))
                .map(drop)
        }
        "look a name up" => ("localhost", 1).to_socket_addrs().map(drop),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "listen on a port of others" => TcpListener::bind(("127.0.0.1", port("FREE"))).map(drop),
        "listen on a Unix socket" => UnixListener::bind(place("state/listening")).map(drop),
        "multipath TCP" => socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        "a raw socket" => socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        "a packet socket" => socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0),
        "a netlink socket" => socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        "connect to serve's socket" => UnixStream::connect(place("socket/s.sock")).map(drop),
        "connect to an abstract Unix socket" => {
            let name = std::env::var("ABSTRACT").expect("the test says which");
            UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop)
        }
        "send a message" => send_message(),
        "send to an address" => send_to_an_address(),
        "accept a connection" => accept(&listener),

        // Programs and processes.
        "start a program" => Command::new("/bin/true").status().map(drop),
        "become a program" => {
            let argv = [c"true".as_ptr(), std::ptr::null()];
            // SAFETY: a path and a list that ends with a null pointer, which live for the call.
            answer(unsafe { libc::execv(c"/bin/true".as_ptr(), argv.as_ptr()) }.into())?;
            unreachable!("it has become another program")
        }
        "have a child" => fork(),
        "be traced" => number(libc::SYS_ptrace, &[libc::PTRACE_TRACEME.into(), 0, 0, 0]),
        "read another process" => {
            number(libc::SYS_process_vm_readv, &[parent.into(), 0, 0, 0, 0, 0])
        }
        "signal another process" => number(libc::SYS_kill, &[parent.into(), 0]),
        "signal another process's thread" => {
            number(libc::SYS_tgkill, &[parent.into(), parent.into(), 0])
        }
        // By the kernel, when a file is ready.
        "have another process be signalled" => signal_of_a_file(libc::F_SETOWN, parent.into()),
        "choose a signal for a file" => signal_of_a_file(F_SETSIG, libc::SIGKILL.into()),
        "be signalled when a file is ready" => {
            signal_of_a_file(libc::F_SETFL, libc::O_ASYNC.into())
        }
        "not wait for a file" => signal_of_a_file(libc::F_SETFL, libc::O_NONBLOCK.into()),
        "a process's descriptor" => number(libc::SYS_pidfd_open, &[parent.into(), 0]),

        // Files.
        "read a model" => std::fs::read(place("models/m.gguf")).map(drop),
        "read a model through a link" => std::fs::read(place("models/linked.gguf")).map(drop),
        "list the models" => std::fs::read_dir(place("models")).map(drop),
        "write a model" => std::fs::write(place("models/m.gguf"), "x"),
        "cut a model short" => cut_short(&place("models/m.gguf")),
        "remove a model" => std::fs::remove_file(place("models/m.gguf")),
        "keep something" => {
            std::fs::create_dir_all(place("state/kept"))?;
            std::fs::write(place("state/kept/new"), "x")?;
            std::fs::rename(place("state/kept/new"), place("state/kept/old"))?;
            std::fs::remove_dir_all(place("state/kept"))
        }
        "read a certificate again" => std::fs::read(place("certificates/ca.pem")).map(drop),
        "read the users" => std::fs::read("/etc/passwd").map(drop),
        "read elsewhere" => std::fs::read(place("elsewhere/secret")).map(drop),
        "write elsewhere" => std::fs::write(place("elsewhere/new"), "x"),
        "read another process's files" => std::fs::read(format!("/proc/{parent}/status")).map(drop),
        "read what is free" => std::fs::read("/proc/meminfo").map(drop),

        // The kernel.
        "io_uring" => io_uring(),
        "executable memory" => executable_memory(),
        "mount" => mount(),
        "a namespace of users" => number(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()]),
        "a namespace of mounts" => number(libc::SYS_unshare, &[libc::CLONE_NEWNS.into()]),
        "bpf" => number(
            libc::SYS_bpf,
            &[0, [4u32, 4, 4, 1].as_ptr() as libc::c_long, 16],
        ),
        "perf" => perf(),
        "keyrings" => number(libc::SYS_keyctl, &[0, -3, 1]),
        "a file in memory" => number(libc::SYS_memfd_create, &[c"m".as_ptr() as libc::c_long, 0]),
        "be dumped again" => number(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 1]),
        "core dumps again" => limit(libc::RLIMIT_CORE, 1 << 20),
        "have less memory" => limit(libc::RLIMIT_DATA, 1 << 30),
        "swap" => number(libc::SYS_swapoff, &[c"/none".as_ptr() as libc::c_long]),
        "another host name" => host_name(),
        "use a device" => DEVICES.into_iter().try_for_each(ask_a_device),
        // GPIO_V2_LINE_SET_CONFIG, which nothing needs.
        "set a device up" => ask_a_device(0xc110_b40d),
        #[cfg(target_arch = "x86_64")]
        "a call of i386" => i386(),
        #[cfg(target_arch = "x86_64")]
        "a call of x32" => number(0x4000_0000 + libc::SYS_getpid, &[]),
        other => panic!("{other} is nothing"),
    }
}

/// Which signal the kernel sends.
const F_SETSIG: libc::c_int = 10;

fn signal_of_a_file(asked: libc::c_int, with: libc::c_long) -> io::Result<()> {
    let (file, _other) = io::pipe()?;
    number(
        libc::SYS_fcntl,
        &[file.as_raw_fd().into(), asked.into(), with],
    )
}

/// What GPIO chips, I2C and SPI buses, and watchdogs are asked.
const DEVICES: [libc::c_long; 10] = [
    0x8044_b401,
    0xc250_b407,
    0xc010_b40e,
    0xc010_b40f,
    0x0703,
    0x0707,
    0x4001_6b01,
    0x4001_6b03,
    0x4004_6b04,
    0xc004_5706,
];

/// Asks what is no device, which is its answer: that the kernel passes the question on is what matters.
fn ask_a_device(request: libc::c_long) -> io::Result<()> {
    match number(libc::SYS_ioctl, &[0, request, 0]) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(()),
        other => other,
    }
}

/// The kernel's answer: below zero an error.
fn answer(returned: libc::c_long) -> io::Result<()> {
    match returned {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number(call: libc::c_long, with: &[libc::c_long]) -> io::Result<()> {
    let mut arguments = [0; 6];
    arguments[..with.len()].copy_from_slice(with);
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: what is pointed to lives for the call, and is as large as the call reads.
    answer(unsafe { libc::syscall(call, a, b, c, d, e, f) })
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<()> {
    number(
        libc::SYS_socket,
        &[family.into(), kind.into(), protocol.into()],
    )
}

/// Two ends of a pipe of messages.
fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    // SAFETY: two numbers are written to an array of two, which live for the call.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()) };
    answer(made.into())?;
    // SAFETY: both were just opened, and are nobody else's.
    Ok(ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }))
}

fn send_message() -> io::Result<()> {
    let [one, _other] = pair()?;
    // SAFETY: all null is an empty message without an address.
    let message: libc::msghdr = unsafe { std::mem::zeroed() };
    // SAFETY: the message lives for the call.
    answer(unsafe { libc::sendmsg(one.as_raw_fd(), &raw const message, 0) } as libc::c_long)
}

fn send_to_an_address() -> io::Result<()> {
    let [one, _other] = pair()?;
    // SAFETY: all null is an address of no length that is used.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let path =
        CString::new(place("socket/datagrams").as_os_str().as_encoded_bytes()).expect("no NUL");
    for (to, byte) in address.sun_path.iter_mut().zip(path.to_bytes()) {
        *to = *byte as libc::c_char;
    }
    // SAFETY: a byte and an address, which live for the call and have the lengths given.
    answer(unsafe {
        libc::sendto(
            one.as_raw_fd(),
            c"x".as_ptr().cast(),
            1,
            0,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    } as libc::c_long)
}

/// Tells the test where to connect, and sends back what comes.
fn accept(listener: &TcpListener) -> io::Result<()> {
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    stream.write_all(&word)
}

fn io_uring() -> io::Result<()> {
    // More than the parameters have, which the kernel fills.
    let mut parameters = [0u64; 32];
    number(
        libc::SYS_io_uring_setup,
        &[8, parameters.as_mut_ptr() as libc::c_long],
    )
}

fn perf() -> io::Result<()> {
    // The clock of a processor, which every kernel counts: type 1, and 128 bytes of parameters.
    let mut parameters = [0u32; 32];
    parameters[..2].copy_from_slice(&[1, 128]);
    let at = parameters.as_mut_ptr() as libc::c_long;
    number(libc::SYS_perf_event_open, &[at, 0, -1, -1, 0])
}

fn fork() -> io::Result<()> {
    // SAFETY: with one thread, a child may do anything; this one ends.
    match unsafe { libc::fork() } {
        // SAFETY: as above.
        0 => unsafe { libc::_exit(0) },
        child => answer(child.into()),
    }
}

fn cut_short(file: &Path) -> io::Result<()> {
    let path = CString::new(file.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: the path lives for the call.
    answer(unsafe { libc::truncate(path.as_ptr(), 1) }.into())
}

fn executable_memory() -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a new mapping anywhere touches no other memory.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    match memory {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn mount() -> io::Result<()> {
    let to = CString::new(place("elsewhere").as_os_str().as_encoded_bytes()).expect("no NUL");
    let (to, kind) = (to.as_ptr(), c"tmpfs".as_ptr());
    // SAFETY: the texts live for the call.
    answer(unsafe { libc::mount(kind, to, kind, 0, std::ptr::null()) }.into())?;
    // SAFETY: as above.
    answer(unsafe { libc::umount(to) }.into())
}

fn limit(what: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let some = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the limit lives for the call.
    answer(unsafe { libc::setrlimit(what, &raw const some) }.into())
}

/// The one that it has, so that a success changes nothing.
fn host_name() -> io::Result<()> {
    let name = std::fs::read("/proc/sys/kernel/hostname")?;
    let name = name.trim_ascii();
    // SAFETY: the name lives for the call and has this length.
    answer(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())
}

#[cfg(target_arch = "x86_64")]
fn i386() -> io::Result<()> {
    let returned: i32;
    // SAFETY: number 20 of i386 is getpid, which takes nothing and touches no memory.
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") 20 => returned, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    answer(returned.into())
}
