//! Two network namespaces with one cable between them: this process moves into the outer one, a thread into the
//! box's. They end with the process.
//!
//! Needs root, or a kernel that lets users make namespaces of their own.

use std::fs;
use std::io;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::{BOX, BOX_6, NAME_SERVER, OUTSIDE, OUTSIDE_6};

type Errand = Box<dyn FnOnce() + Send>;

/// A thread that lives in the box's network; what it starts lives there, too.
pub struct Inside {
    errands: Option<Sender<Errand>>,
    thread: Option<JoinHandle<()>>,
}

/// Moves this process, which must have one thread, out of the machine's network, and makes the box's.
///
/// # Errors
/// What this machine forbids, or which program is missing.
pub fn enter() -> Result<Inside, String> {
    // SAFETY: geteuid and getegid take nothing and cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    if user != 0 {
        unshare(libc::CLONE_NEWUSER)?;
        let write = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| format!("cannot write /proc/self/{file}: {error}"))
        };
        write("setgroups", "deny".into())?;
        write("uid_map", format!("0 {user} 1"))?;
        write("gid_map", format!("0 {group} 1"))?;
    }
    unshare(libc::CLONE_NEWNET)?;
    let (errands, received) = channel::<Errand>();
    let (ready, made) = channel();
    let thread = std::thread::spawn(move || {
        let outcome = unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS).and_then(|()| own_resolver());
        // SAFETY: gettid takes nothing and cannot fail.
        let id = unsafe { libc::gettid() };
        let failed = outcome.is_err();
        let _ = ready.send(outcome.map(|()| id));
        if !failed {
            received.iter().for_each(|errand| errand());
        }
    });
    let inside = Inside {
        errands: Some(errands),
        thread: Some(thread),
    };
    let id = made.recv().map_err(|_| "the box's thread ended")??;
    ip("link set lo up")?;
    ip(&format!(
        "link add sink0 type veth peer name box0 netns {id}"
    ))?;
    address(
        "sink0",
        &format!("{OUTSIDE}/24"),
        &format!("{OUTSIDE_6}/64"),
    )?;
    inside.run(|| {
        ip("link set lo up")?;
        address("box0", &format!("{BOX}/24"), &format!("{BOX_6}/64"))?;
        ip(&format!("route add default via {OUTSIDE}"))?;
        ip(&format!("-6 route add default via {OUTSIDE_6}"))
    })?;
    Ok(inside)
}

impl Inside {
    /// Does something inside, and waits for it.
    pub fn run<T: Send + 'static>(&self, errand: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = channel();
        let errand = Box::new(move || {
            let _ = done.send(errand());
        });
        let errands = self.errands.as_ref().expect("it has not ended");
        errands.send(errand).expect("the box's thread lives");
        outcome.recv().expect("the errand ends")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.errands.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Addresses without the kernel's questions whether somebody has them already or where a router is.
fn address(interface: &str, v4: &str, v6: &str) -> Result<(), String> {
    for (setting, value) in [
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
    ] {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/{setting}");
        fs::write(&path, value).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    ip(&format!("addr add {v4} dev {interface}"))?;
    ip(&format!("addr add {v6} dev {interface} nodad"))?;
    ip(&format!("link set {interface} up"))
}

/// For the box, and for nobody else, names are asked for beyond the default route.
fn own_resolver() -> Result<(), String> {
    mount(None, "/", libc::MS_REC | libc::MS_PRIVATE)?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("resolv.conf");
    let text = format!("nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n");
    let place = fs::canonicalize("/etc/resolv.conf")
        .map_err(|error| format!("there is no /etc/resolv.conf to lay another over: {error}"))?;
    fs::write(&file, text).map_err(|error| error.to_string())?;
    // Mounted, it stays when the folder goes.
    mount(
        file.to_str(),
        place.to_str().unwrap_or_default(),
        libc::MS_BIND,
    )
}

fn mount(source: Option<&str>, target: &str, flags: libc::c_ulong) -> Result<(), String> {
    let text = |text: &str| std::ffi::CString::new(text).expect("a path has no NUL");
    let source = source.map(text);
    let place = text(target);
    // SAFETY: both texts outlive the call; the other pointers may be null for these flags.
    let done = unsafe {
        libc::mount(
            source
                .as_ref()
                .map_or(std::ptr::null(), |source| source.as_ptr()),
            place.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(format!(
            "cannot mount on {target}: {}",
            io::Error::last_os_error()
        )),
    }
}

fn unshare(flags: libc::c_int) -> Result<(), String> {
    // SAFETY: unshare takes a number.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(format!(
            "this machine lets nobody make namespaces here ({}): run it as root, outside of a container that forbids it",
            io::Error::last_os_error()
        )),
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot start ip (Debian: iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
