//! A network namespace without interfaces: sockets that are open stay with the network where they were opened,
//! and nothing new leads anywhere.

use std::io;

use crate::Namespace;
use crate::status::{Socket, interfaces, sockets};

/// Enters one, as root or, where the kernel lets users make namespaces, as any user; unless who started this process
/// has put it into one.
pub fn enter_an_empty_one() -> Namespace {
    if is_in_an_empty_one() {
        return Namespace::Empty;
    }
    // SAFETY: unshare takes a number only; the caller has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        return Namespace::Empty;
    }
    // SAFETY: these take nothing and cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: as above. It does both or nothing.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } != 0 {
        return Namespace::Refused;
    }
    // Without these this process would see itself as nobody; all that it may do stays the same.
    if let Err(error) = stay(user, group) {
        eprintln!("cloister: this process cannot be named in its namespace of users: {error}");
    }
    Namespace::EmptyWithOneUser
}

/// Whether this process has sockets of another network than its own, and its own has loopback alone: so systemd starts
/// one with `PrivateNetwork=` that it passes sockets to.
fn is_in_an_empty_one() -> bool {
    interfaces() == Some(0) && sockets().contains_key(&Socket::OpenedBefore)
}

/// Keeps this user's and group's numbers in the new namespace of users.
fn stay(user: u32, group: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}
