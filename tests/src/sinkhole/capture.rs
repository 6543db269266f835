//! Every packet that leaves the box, as the kernel hands it to its interfaces.
//!
//! In: a packet socket of the box's namespace. Out: each connection's first packet and each leak as a line while it
//! runs, and counts at the end. Must never lose a packet unnoticed: the kernel's own count of lost ones is asked.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use super::namespaces::Inside;
use super::packets::{Interface, Whose, judge};

/// What has left.
#[derive(Debug, Default)]
pub struct Seen {
    counts: BTreeMap<Whose, u64>,
    /// Packets that the kernel could not show.
    pub lost: u32,
}

impl Seen {
    /// The packets of one kind.
    pub fn of(&self, whose: Whose) -> u64 {
        self.counts.get(&whose).copied().unwrap_or_default()
    }
}

/// A capture under way.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Seen>>,
}

impl Capture {
    /// Begins, before anything else is started inside.
    pub fn begin(inside: &Inside) -> io::Result<Self> {
        let (socket, loopback) = inside.run(|| Ok::<_, io::Error>((open()?, index_of("lo")?)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watch(&socket, loopback, &asked));
        Ok(Self { stop, thread })
    }

    /// Ends, with what has been seen.
    pub fn end(self) -> io::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the capture does not panic")
    }
}

fn watch(socket: &OwnedFd, loopback: i32, stop: &AtomicBool) -> io::Result<Seen> {
    let began = Instant::now();
    let mut seen = Seen::default();
    let mut lines = HashSet::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Some((length, interface, outgoing)) = receive(socket, &mut buffer)? else {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            continue;
        };
        if !outgoing {
            continue;
        }
        let interface = match interface == loopback {
            true => Interface::Loopback,
            false => Interface::Cable,
        };
        let (whose, line) = judge(interface, &buffer[..length]);
        *seen.counts.entry(whose).or_default() += 1;
        if whose == Whose::Leak || lines.insert(line.clone()) {
            let kind = match whose {
                Whose::Client => "client",
                Whose::Broker => "broker",
                Whose::Kernel => "kernel",
                Whose::Leak => "LEAK  ",
            };
            println!("{:8.3}  {kind}  {line}", began.elapsed().as_secs_f64());
        }
    }
    seen.lost = lost(socket)?;
    Ok(seen)
}

fn open() -> io::Result<OwnedFd> {
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: socket takes numbers; the descriptor is ours alone.
    let socket = unsafe {
        let number = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, all);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(number)
    };
    let room: libc::c_int = 64 << 20;
    let wait = libc::timeval {
        tv_sec: 0,
        tv_usec: 100_000,
    };
    set(&socket, libc::SO_RCVBUFFORCE, &room).or_else(|_| set(&socket, libc::SO_RCVBUF, &room))?;
    set(&socket, libc::SO_RCVTIMEO, &wait)?;
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value lives through the call, and its size is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn index_of(interface: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(interface).expect("no NUL");
    // SAFETY: the name is a C string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index as i32),
    }
}

/// Length, interface, and whether it leaves; `None` when none has come for a while.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(usize, i32, bool)>> {
    // SAFETY: a sockaddr_ll of zeros is one.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: buffer and address live through the call, and their sizes are told.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    if length < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    }
    let outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
    Ok(Some((length as usize, from.sll_ifindex, outgoing)))
}

/// How many packets the kernel had no room for.
fn lost(socket: &OwnedFd) -> io::Result<u32> {
    // `struct tpacket_stats`: packets, then drops.
    let mut counts = [0_u32; 2];
    let mut size = size_of_val(&counts) as libc::socklen_t;
    // SAFETY: the two numbers live through the call, and their size is told.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    match done {
        0 => Ok(counts[1]),
        _ => Err(io::Error::last_os_error()),
    }
}
