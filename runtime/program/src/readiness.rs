//! Tells whoever started a process that it is ready, by the protocol of `sd_notify(3)`.
//!
//! In: `NOTIFY_SOCKET` from the environment. Out: datagrams.
//! Must never fail the service: where nobody asked, there is nobody to tell.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to whoever wants to know, opened before the process is sealed: afterwards it opens no sockets.
pub struct Readiness(Option<UnixDatagram>);

impl Readiness {
    /// Opens the way that `NOTIFY_SOCKET` names, if it does.
    ///
    /// # Errors
    /// Nobody listens there; the service may go on.
    pub fn prepare() -> io::Result<Self> {
        std::env::var_os("NOTIFY_SOCKET").map_or(Ok(Self(None)), |socket| Self::to(&socket))
    }

    /// To nobody.
    pub fn to_nobody() -> Self {
        Self(None)
    }

    /// To a path, or with a leading `@` to a name in the abstract namespace.
    fn to(socket: &OsStr) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(socket)?,
        };
        let open = UnixDatagram::unbound()?;
        open.connect_addr(&address)?;
        Ok(Self(Some(open)))
    }

    /// Sends `READY=1`.
    ///
    /// # Errors
    /// Nobody listens any more; the service may go on.
    pub fn tell(&self) -> io::Result<()> {
        self.say(b"READY=1")
    }

    /// Sends `WATCHDOG=1`: it still runs.
    ///
    /// # Errors
    /// Nobody listens any more; the service may go on.
    pub fn alive(&self) -> io::Result<()> {
        self.say(b"WATCHDOG=1")
    }

    fn say(&self, what: &[u8]) -> io::Result<()> {
        if let Self(Some(open)) = self {
            open.send(what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut message = [0; 64];
        let length = socket.recv(&mut message).unwrap();
        message[..length].to_vec()
    }

    #[test]
    fn a_path_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Readiness::to(path.as_os_str()).unwrap().tell().unwrap();
        assert_eq!(received(&socket), b"READY=1");
    }

    #[test]
    fn an_abstract_name_is_told() {
        let name = format!("cloister-program-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let name = format!("@{name}");
        Readiness::to(OsStr::new(&name)).unwrap().tell().unwrap();
        assert_eq!(received(&socket), b"READY=1");
    }
}
