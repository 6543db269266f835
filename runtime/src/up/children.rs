//! Child processes: started, awaited until ready, watched, and ended in reverse order.
//!
//! In: commands and signals. Out: when one is ready or has ended, and with what status.
//! Must never outlive its children, nor they it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloister_program::private;
use tokio::net::{TcpStream, UnixDatagram};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

/// How long a child may take to end when asked to, before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a Mosquitto may take to listen.
const ACCEPTING_WITHIN: Duration = Duration::from_secs(10);

/// A child ended that was not to end.
#[derive(Debug)]
pub struct Ended {
    name: &'static str,
    status: ExitStatus,
    starting: bool,
}

impl Ended {
    /// Its own exit code, where it has said what was wrong before it ended with that.
    pub fn said(&self) -> Option<u8> {
        let code = self.status.code()?;
        (self.starting && matches!(code, 1 | 2)).then_some(code as u8)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            status,
            starting,
        } = self;
        if *starting {
            write!(
                f,
                "{name} ended while it started ({status}); what it said is above"
            )
        } else {
            write!(
                f,
                "{name} ended by itself ({status}), so everything is stopped; what it said is above"
            )
        }
    }
}

impl std::error::Error for Ended {}

/// How a start went.
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// It said that it is ready.
    Ready,
    /// It runs, but did not say so in time.
    Slow,
    /// A signal asked for the end before.
    Stopped,
}

/// The signals that ask for the end, and the one that says that a child has ended.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    child: Signal,
}

impl StopSignals {
    /// Takes these signals over from their default, which is to end this process at once.
    pub fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            child: on(SignalKind::child())?,
        })
    }
}

/// The children, in the order of their start. Dropped, they are killed.
#[derive(Default)]
pub struct Children(Vec<(&'static str, Child)>);

impl Children {
    /// Starts a child. It gets a process group of its own, so that Ctrl-C in a terminal reaches this
    /// process alone, which then ends the children in order; and it is killed with this process.
    pub fn spawn(&mut self, name: &'static str, mut command: Command) -> Result<()> {
        let program = command.get_program().to_os_string();
        command.process_group(0);
        let parent = std::process::id();
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl, getppid and umask are,
        // and making an io::Error from a number allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The parent may have ended before the line above.
                if libc::getppid().unsigned_abs() != parent {
                    return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                }
                private::end();
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        self.0.push((name, child));
        Ok(())
    }

    /// Runs a program that looks at something and ends, without a word if all is well.
    pub fn look(name: &'static str, mut command: Command) -> Result<()> {
        let program = command.get_program().to_os_string();
        let status = command
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        if !status.success() {
            bail!(Ended {
                name,
                status,
                starting: true
            });
        }
        Ok(())
    }

    /// Starts a child that says by `sd_notify` when it is ready, and waits for that.
    pub async fn notified(
        &mut self,
        name: &'static str,
        mut command: Command,
        state: &Path,
        within: Duration,
        stop: &mut StopSignals,
    ) -> Result<Started> {
        let path = state.join("notify.sock");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).with_context(|| {
            format!(
                "cannot make the socket {}; a path of more than 107 bytes is too long for one",
                path.display()
            )
        })?;
        command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null());
        self.spawn(name, command)?;
        let ready = async {
            let mut message = [0; 4096];
            loop {
                let length = socket
                    .recv(&mut message)
                    .await
                    .context("cannot read the notify socket")?;
                if message[..length]
                    .split(|byte| *byte == b'\n')
                    .any(|line| line == b"READY=1")
                {
                    return anyhow::Ok(());
                }
            }
        };
        let started = self.started(name, ready, within, stop).await;
        let _ = std::fs::remove_file(&path);
        started
    }

    /// Waits until a child accepts connections on a port of loopback.
    ///
    /// For Mosquitto, which tells `sd_notify` only where it was built so.
    pub async fn accepting(
        &mut self,
        name: &'static str,
        port: u16,
        stop: &mut StopSignals,
    ) -> Result<Started> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ready = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        match self.started(name, ready, ACCEPTING_WITHIN, stop).await? {
            Started::Slow => bail!("{name} does not listen on port {port} of 127.0.0.1"),
            started => Ok(started),
        }
    }

    async fn started(
        &mut self,
        name: &str,
        ready: impl Future<Output = Result<()>>,
        within: Duration,
        stop: &mut StopSignals,
    ) -> Result<Started> {
        tokio::pin!(ready);
        let deadline = Instant::now() + within;
        loop {
            if let Some((ended, status)) = self.ended()? {
                bail!(Ended {
                    name: ended,
                    status,
                    starting: ended == name
                });
            }
            tokio::select! {
                outcome = &mut ready => return outcome.map(|()| Started::Ready),
                () = sleep(deadline.saturating_duration_since(Instant::now())) => return Ok(Started::Slow),
                _ = stop.child.recv() => {}
                _ = stop.interrupt.recv() => return Ok(Started::Stopped),
                _ = stop.terminate.recv() => return Ok(Started::Stopped),
                _ = stop.hangup.recv() => return Ok(Started::Stopped),
            }
        }
    }

    /// Waits for the signal that asks for the end: `Ok`; or for a child that ends by itself: an error.
    pub async fn watch(&mut self, stop: &mut StopSignals) -> Result<()> {
        loop {
            if let Some((name, status)) = self.ended()? {
                bail!(Ended {
                    name,
                    status,
                    starting: false
                });
            }
            tokio::select! {
                _ = stop.child.recv() => {}
                _ = stop.interrupt.recv() => return Ok(()),
                _ = stop.terminate.recv() => return Ok(()),
                _ = stop.hangup.recv() => return Ok(()),
            }
        }
    }

    /// The first child that has ended, if one has.
    fn ended(&mut self) -> Result<Option<(&'static str, ExitStatus)>> {
        for (name, child) in &mut self.0 {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("cannot wait for {name}"))?
            {
                return Ok(Some((name, status)));
            }
        }
        Ok(None)
    }

    /// Ends the children, the last started first, each with SIGTERM, then SIGKILL; returns when all
    /// are gone and reaped.
    pub async fn stop(&mut self) {
        while let Some((name, mut child)) = self.0.pop() {
            if ask_to_end(&mut child) && timeout(FAREWELL, gone(&mut child)).await.is_err() {
                eprintln!(
                    "cloister: {name} did not end in {} s and is killed",
                    FAREWELL.as_secs()
                );
            }
            kill(&mut child);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.0.iter_mut().rev().for_each(|(_, child)| kill(child));
    }
}

/// Sends SIGTERM, unless the child is gone already.
fn ask_to_end(child: &mut Child) -> bool {
    let Ok(None) = child.try_wait() else {
        return false;
    };
    let Ok(id) = libc::pid_t::try_from(child.id()) else {
        return false;
    };
    // SAFETY: kill takes two numbers. The child was not reaped yet, so its id is not another's.
    unsafe { libc::kill(id, libc::SIGTERM) == 0 }
}

/// Until the child has ended and is reaped.
async fn gone(child: &mut Child) {
    while let Ok(None) = child.try_wait() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends SIGKILL, unless the child is gone already, and reaps it.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_child_that_ends_while_it_starts_is_named_with_its_status() {
        let folder = tempfile::tempdir().unwrap();
        let mut stop = StopSignals::listen().unwrap();
        let mut children = Children::default();
        let error = children
            .notified(
                "the engine",
                shell("exit 3"),
                folder.path(),
                Duration::from_secs(60),
                &mut stop,
            )
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the engine") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn who_has_said_what_is_wrong_is_not_repeated() {
        let said = |script| {
            let error = Children::look("the bridge", shell(script)).unwrap_err();
            error.downcast_ref::<Ended>().unwrap().said()
        };
        assert_eq!(said("exit 2"), Some(2));
        assert_eq!(said("exit 101"), None);
        assert_eq!(said("kill -9 $$"), None);
        Children::look("the bridge", shell("exit 0")).unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_child_that_stays_silent_is_slow_and_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut stop = StopSignals::listen().unwrap();
        let mut children = Children::default();
        let started = children
            .notified(
                "the bridge",
                shell("exec sleep 60"),
                folder.path(),
                Duration::from_millis(50),
                &mut stop,
            )
            .await
            .unwrap();
        assert_eq!(started, Started::Slow);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_child_that_ends_later_ends_the_watch() {
        let mut stop = StopSignals::listen().unwrap();
        let mut children = Children::default();
        children
            .spawn("the broker", shell("exec sleep 60"))
            .unwrap();
        children.spawn("the bridge", shell("kill -9 $$")).unwrap();
        let error = children.watch(&mut stop).await.unwrap_err().to_string();
        assert!(
            error.contains("the bridge") && error.contains("signal: 9"),
            "{error}"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn after_the_stop_no_child_is_left() {
        let mut children = Children::default();
        children.spawn("one", shell("exec sleep 60")).unwrap();
        children.spawn("two", shell("exec sleep 60")).unwrap();
        let ids: Vec<u32> = children.0.iter().map(|(_, child)| child.id()).collect();
        children.stop().await;
        for id in ids {
            assert!(
                !Path::new(&format!("/proc/{id}")).exists(),
                "process {id} is left"
            );
        }
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = Children::default()
            .spawn("x", Command::new("/nowhere/cloister-bridge"))
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("/nowhere/cloister-bridge"),
            "{error:#}"
        );
    }
}
