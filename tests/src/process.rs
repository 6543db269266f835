//! Processes that end with the test, and what the kernel says about processes.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long anything that must happen may take on a busy machine before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process, killed and reaped when dropped.
pub struct Process(pub Child);

impl Process {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")),
        )
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.0.id()).expect("a process id fits");
        // SAFETY: kill takes two numbers; the child is not reaped before this value is dropped.
        let sent = unsafe { libc::kill(id, signal) };
        assert_eq!(sent, 0, "cannot signal process {id}");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.0
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }

    /// Kills it, and returns when it is gone.
    pub fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until `done` gives a value; fails with `what` when it never does.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An address of this machine that is not loopback: who comes from there comes from the network.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket can be had");
    // Sends nothing: it only asks the kernel for a route, to an address that is kept for documentation.
    socket
        .connect((Ipv4Addr::new(203, 0, 113, 1), 9))
        .expect("this machine has an address beside loopback, which this test needs");
    let address = socket.local_addr().expect("it has one").ip();
    assert!(!address.is_loopback(), "{address}");
    address
}

/// A TCP port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener
        .local_addr()
        .expect("a listener has an address")
        .port()
}

/// The living children of a process: id and name.
pub fn children_of(parent: u32) -> Vec<(u32, String)> {
    std::fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id| {
            let (name, state, of) = stat(id)?;
            (of == parent && state != 'Z').then_some((id, name))
        })
        .collect()
}

/// A process and all that it has started, and those have, as far as they live.
pub fn with_descendants(id: u32) -> Vec<u32> {
    let mut all = vec![id];
    for (child, _) in children_of(id) {
        all.extend(with_descendants(child));
    }
    all
}

/// Whether a process is there and not just waiting to be reaped.
pub fn lives(id: u32) -> bool {
    stat(id).is_some_and(|(_, state, _)| state != 'Z')
}

/// Name, state and parent from `/proc/<id>/stat`.
fn stat(id: u32) -> Option<(String, char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in parentheses and may hold any character.
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    Some((
        name,
        fields.next()?.chars().next()?,
        fields.next()?.parse().ok()?,
    ))
}
