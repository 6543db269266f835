//! Tells whoever started this process that it is ready, by systemd's readiness protocol.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `READY=1` to `NOTIFY_SOCKET` (sd_notify(3)); does nothing when nobody asked for it.
pub fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = address(&path).and_then(|to| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &to));
    if let Err(error) = sent {
        tracing::warn!(
            "cannot tell NOTIFY_SOCKET {} that this is ready: {error}",
            path.display()
        );
    }
}

fn address(path: &std::ffi::OsStr) -> std::io::Result<SocketAddr> {
    // A leading `@` stands for the NUL of an abstract address.
    match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}
