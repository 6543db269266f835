//! The two listeners, with errors that say what to do.

use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UnixListener};

/// Binds `address`.
pub async fn tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
                "port {} of {} is in use by another program: stop it, or choose another port",
                address.port(),
                address.ip()
            ),
            _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        })
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
pub fn unix(path: PathBuf) -> anyhow::Result<(UnixListener, SocketFile)> {
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
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on the Unix socket {}", path.display()))?;
    Ok((listener, SocketFile(path)))
}
