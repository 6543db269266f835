//! The two listeners, opened here or by who started this process, with errors that say what to do.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cloister_program::private;

/// Connections that may wait to be accepted. The standard library asks for 128.
const WAITING: libc::c_int = 1024;

/// Binds `address`, before there is a runtime: the process is sealed between the two.
pub fn tcp(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} of {} is in use by another program: stop it, or choose another port",
            address.port(),
            address.ip()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })?;
    let_more_wait(&listener)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The port that who started this process has opened for it, by the protocol of `sd_listen_fds(3)`, if it has one.
///
/// # Errors
/// What was passed is not one TCP socket that listens.
pub fn passed() -> anyhow::Result<Option<std::net::TcpListener>> {
    let mut passed = sd_notify::listen_fds().context("LISTEN_PID and LISTEN_FDS do not agree")?;
    let socket = passed.next();
    if passed.len() > 0 {
        bail!(
            "{} sockets were passed to this process (LISTEN_FDS), and it takes one: leave one ListenStream= in its unit",
            passed.len() + 1
        );
    }
    let Some(socket) = socket else {
        return Ok(None);
    };
    // SAFETY: it was opened for this process, and nobody else here uses it.
    let listener = unsafe { std::net::TcpListener::from_raw_fd(socket) };
    listener
        .local_addr()
        .context("the socket that was passed to this process is no TCP socket")?;
    let_more_wait(&listener)
        .context("the socket that was passed to this process does not listen")?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

fn let_more_wait(listener: &impl AsRawFd) -> std::io::Result<()> {
    // SAFETY: listen takes numbers only; on a socket that listens it sets how many may wait.
    match unsafe { libc::listen(listener.as_raw_fd(), WAITING) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A bound socket's file, removed when dropped.
pub struct SocketFile(PathBuf);

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds the Unix socket `path`. A socket that nobody listens on any more is replaced.
pub fn unix(path: PathBuf) -> anyhow::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    if let Ok(found) = std::fs::symlink_metadata(&path) {
        if !found.file_type().is_socket() {
            bail!(
                "{} is there and is no socket: choose another --socket",
                path.display()
            );
        }
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            bail!(
                "another server listens on {}: stop it, or choose another --socket",
                path.display()
            );
        }
        std::fs::remove_file(&path)
            .with_context(|| format!("cannot replace the stale socket {}", path.display()))?;
    }
    // Who may reach it is said by the mask that this was started with, as a unit has one for the group of its users.
    let listener = private::shared(|| {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        std::os::unix::net::UnixListener::bind(&path)
            .with_context(|| format!("cannot listen on the Unix socket {}", path.display()))
    })?;
    let_more_wait(&listener)?;
    listener.set_nonblocking(true)?;
    Ok((listener, SocketFile(path)))
}
