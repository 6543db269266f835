//! The two listeners, with errors that say what to do.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

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
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on the Unix socket {}", path.display()))?;
    let_more_wait(&listener)?;
    listener.set_nonblocking(true)?;
    Ok((listener, SocketFile(path)))
}
