//! Child processes.

use std::process::{Child, Command, ExitStatus, Stdio};

use super::eventually;

/// A child process that dies with its guard, and with the thread of its test.
pub struct Process(pub(super) Child);

impl Process {
    pub fn start(program: impl AsRef<std::ffi::OsStr>, with: impl FnOnce(&mut Command)) -> Self {
        let program = program.as_ref();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.stdin(Stdio::null());
        with(&mut command);
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {program:?}: {error}")),
        )
    }

    /// Guards a child that was started elsewhere.
    pub fn guard(child: Child) -> Self {
        Self(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The most memory that it ever had, in MiB.
    pub fn peak_resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("the kernel tells it") / 1024
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status();
        assert!(status.unwrap().success(), "no process to send {name} to");
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.0.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn kill(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
