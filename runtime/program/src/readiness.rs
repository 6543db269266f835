//! Tells whoever started a process that it is ready and that it still runs, by the protocol of `sd_notify(3)`.
//!
//! In: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` from the environment. Out: datagrams. Not by a crate: those that
//! there are open the socket for each datagram, and a sealed process opens none.
//! Must never fail the service: where nobody asked, there is nobody to tell.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to whoever wants to know, opened before the process is sealed: afterwards it opens no sockets.
pub struct Readiness {
    socket: Option<UnixDatagram>,
    /// Who started it ends it when it has not told for so long that it runs.
    watchdog: Option<Duration>,
}

impl Readiness {
    /// Opens the way that `NOTIFY_SOCKET` names, if it does.
    ///
    /// # Errors
    /// Nobody listens there; the service may go on.
    pub fn prepare() -> io::Result<Self> {
        let said = |name| std::env::var(name).ok();
        match std::env::var_os("NOTIFY_SOCKET") {
            None => Ok(Self::to_nobody()),
            Some(socket) => Ok(Self {
                watchdog: watchdog(said("WATCHDOG_USEC"), said("WATCHDOG_PID")),
                ..Self::to(&socket)?
            }),
        }
    }

    /// To nobody.
    pub fn to_nobody() -> Self {
        Self {
            socket: None,
            watchdog: None,
        }
    }

    /// To a path, or with a leading `@` to a name in the abstract namespace.
    fn to(socket: &OsStr) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(socket)?,
        };
        let open = UnixDatagram::unbound()?;
        open.connect_addr(&address)?;
        Ok(Self {
            socket: Some(open),
            watchdog: None,
        })
    }

    /// Sends `READY=1`.
    ///
    /// # Errors
    /// Nobody listens any more; the service may go on.
    pub fn tell(&self) -> io::Result<()> {
        self.say(b"READY=1")
    }

    /// How often to tell that it still runs, if anybody watches for that: twice in the time after which it is ended.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// Sends `WATCHDOG=1`: it still runs.
    ///
    /// # Errors
    /// Nobody listens any more; the service may go on.
    pub fn alive(&self) -> io::Result<()> {
        self.say(b"WATCHDOG=1")
    }

    fn say(&self, what: &[u8]) -> io::Result<()> {
        if let Some(open) = &self.socket {
            open.send(what)?;
        }
        Ok(())
    }
}

/// `WATCHDOG_USEC`, unless it is meant for another process.
fn watchdog(microseconds: Option<String>, process: Option<String>) -> Option<Duration> {
    let own = std::process::id().to_string();
    if process.is_some_and(|process| process != own) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|n| *n > 0)?;
    Some(Duration::from_micros(microseconds))
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
    fn a_watchdog_counts_for_the_process_that_it_names() {
        let says = |time: &str, process: Option<&str>| {
            watchdog(Some(time.to_owned()), process.map(str::to_owned))
        };
        let own = std::process::id().to_string();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(says("60000000", Some(&own)), minute);
        assert_eq!(says("60000000", None), minute);
        assert_eq!(says("60000000", Some("1")), None);
        assert_eq!((says("0", None), says("soon", None)), (None, None));
        assert_eq!(watchdog(None, None), None);
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
