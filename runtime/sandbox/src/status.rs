//! What the kernel says about this process: whether it is sealed, and which sockets it has.
//!
//! In: `/proc/self`. Out: a [`Status`]. Must never name another process, a file, or an address of a peer.

use std::collections::BTreeMap;
use std::path::Path;

/// What the kernel says about this process.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its number.
    pub pid: u32,
    /// Its threads.
    pub threads: usize,
    /// Those of them whose system calls are filtered.
    pub threads_filtered: usize,
    /// Whether it can gain no privileges.
    pub no_new_privs: bool,
    /// Whether it has no capability.
    pub no_capabilities: bool,
    /// Whether its memory is written to no disk when it crashes.
    pub no_core_dumps: bool,
    /// The interfaces of its network that are not loopback; nothing where the kernel does not tell.
    pub network_interfaces: Option<usize>,
    /// How many sockets it has of each kind.
    pub sockets: BTreeMap<Socket, usize>,
}

/// A kind of socket.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Socket {
    /// TCP, or any other over a network, listening or connected.
    Network,
    /// Of this machine.
    Unix,
    /// Unknown: of another namespace of the network, such as those that were opened before the seal.
    OpenedBefore,
}

/// The threads of this process; 1 where the kernel does not tell.
pub fn threads() -> usize {
    tasks().len().max(1)
}

fn tasks() -> Vec<std::path::PathBuf> {
    let tasks = Path::new("/proc/self/task")
        .read_dir()
        .into_iter()
        .flatten();
    tasks.flatten().map(|task| task.path()).collect()
}

/// Whether no capability is left that could be used.
pub fn no_capabilities() -> bool {
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&own, "CapPrm:").is_some_and(none)
}

/// Whether this process may use the capability of this number.
pub fn has_capability(number: u32) -> bool {
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = field(&own, "CapPrm:").and_then(|set| u64::from_str_radix(set, 16).ok());
    set.is_some_and(|set| set >> number & 1 == 1)
}

impl Status {
    /// As it is now.
    pub fn now() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let own = read(Path::new("/proc/self/status"));
        let tasks = tasks();
        let filtered = tasks
            .iter()
            .filter(|task| field(&read(&task.join("status")), "Seccomp:") == Some("2"));
        // SAFETY: prctl takes numbers only here.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) };
        Self {
            pid: std::process::id(),
            threads: tasks.len(),
            threads_filtered: filtered.count(),
            no_new_privs: field(&own, "NoNewPrivs:") == Some("1"),
            no_capabilities: no_capabilities(),
            no_core_dumps: dumpable == 0,
            network_interfaces: interfaces(),
            sockets: sockets(),
        }
    }
}

/// How many interfaces its network has beside loopback; none where the kernel does not tell.
pub fn interfaces() -> Option<usize> {
    let all = std::fs::read_to_string("/proc/self/net/dev").ok()?;
    let names = || all.lines().skip(2).map(str::trim_start);
    let loopback = names().filter(|name| name.starts_with("lo:")).count();
    (loopback == 1).then(|| names().count() - 1)
}

/// How many sockets it has of each kind.
pub fn sockets() -> BTreeMap<Socket, usize> {
    let inodes = |tables: &[&str], column: usize| -> Vec<String> {
        let texts = tables
            .iter()
            .map(|table| std::fs::read_to_string(format!("/proc/self/net/{table}")));
        let lines: Vec<String> = texts
            .flatten()
            .flat_map(|text| text.lines().skip(1).map(String::from).collect::<Vec<_>>())
            .collect();
        lines
            .iter()
            .filter_map(|line| line.split_whitespace().nth(column).map(String::from))
            .collect()
    };
    let network = inodes(&["tcp", "tcp6", "udp", "udp6", "raw", "raw6"], 9);
    let unix = inodes(&["unix"], 6);
    let mut found = BTreeMap::new();
    let open = Path::new("/proc/self/fd")
        .read_dir()
        .into_iter()
        .flatten()
        .flatten();
    for link in open.filter_map(|file| file.path().read_link().ok()) {
        let link = link.to_string_lossy().into_owned();
        let Some(inode) = link
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
        else {
            continue;
        };
        let kind = if network.iter().any(|known| known == inode) {
            Socket::Network
        } else if unix.iter().any(|known| known == inode) {
            Socket::Unix
        } else {
            Socket::OpenedBefore
        };
        *found.entry(kind).or_default() += 1;
    }
    found
}

/// Whether a set of capabilities, as the kernel writes it, is empty.
pub fn none(set: &str) -> bool {
    set.bytes().all(|digit| digit == b'0')
}

/// What such a text says after this name.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}
