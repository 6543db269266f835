//! A Mosquitto of our own: on loopback, for this machine's programs, keeping nothing; for the house where it is wanted.
//!
//! In: the state folder, who may do what, and maybe what the house needs. Out: the command that starts it.
//! It opens no connection and writes no file: the kernel refuses it.
//! Must never listen on another interface without a login, must never let anybody but the bridge speak in the box's
//! name, and must never touch a Mosquitto that runs already.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::house_broker::HouseBroker;
use super::logins;
use super::rights::{self, Rights};

/// Where clients look first, and the port next to it: Debian's package starts a Mosquitto of its own, and
/// automations need a port that stays the same.
pub const USUAL_PORTS: [u16; 2] = [1883, 1884];

/// The first of the usual ports where nobody listens, else any free one.
pub fn free_port() -> Result<u16> {
    // A broker may listen on another address alone; a client told `localhost` might find that one.
    let free = |port: &u16| {
        [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED]
            .into_iter()
            .all(|address| TcpListener::bind((address, *port)).is_ok())
            && !matches!(
                TcpListener::bind((Ipv6Addr::LOCALHOST, *port)),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse
            )
    };
    if let Some(port) = USUAL_PORTS.into_iter().find(free) {
        return Ok(port);
    }
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|any| any.local_addr());
    Ok(any.context("no port is free for Mosquitto")?.port())
}

/// Connections to each of its listeners: who takes all of the house's leaves the bridge its own.
const MOST_OF_A_LISTENER: u32 = 256;

/// A Mosquitto that is about to be started.
pub struct OwnBroker {
    /// Its port on loopback.
    pub port: u16,
    /// The file with the bridge's login.
    pub login: PathBuf,
    /// Its listener for the house, where there is to be one.
    pub house: Option<HouseBroker>,
    /// Who may log in, and who may do what, by Mosquitto's names for these files.
    files: [(&'static str, Vec<u8>); 2],
}

impl OwnBroker {
    /// With the login of the bridge, made if there is none.
    ///
    /// # Errors
    /// The state folder cannot be written; Mosquitto's programs are missing.
    pub fn prepare(
        state: &Path,
        rights: &Rights,
        house: Option<HouseBroker>,
        port: u16,
    ) -> Result<Self> {
        let login = logins::kept(state, "bridge-login", rights::BRIDGE)?;
        let all = [Some(&login), house.as_ref().map(|house| &house.login)];
        let all: Vec<&Path> = all.into_iter().flatten().map(PathBuf::as_path).collect();
        Ok(Self {
            port,
            files: [
                ("password_file", logins::hashed(state, &all)?),
                ("acl_file", rights.text().into_bytes()),
            ],
            login,
            house,
        })
    }

    /// The command that starts it. All that it reads it gets open: the user that it runs as may not be able to reach
    /// the state folder.
    ///
    /// # Errors
    /// Mosquitto is not installed; there is no memory for its files.
    pub fn command(&self) -> Result<Command> {
        let program = find()
            .context("mosquitto is not installed; install it with: apt-get install mosquitto")?;
        let mut command = Command::new(program);
        // What it gives back is filled with something else, as ours is wiped; glibc does not where it caches for a thread.
        command.env(
            "GLIBC_TUNABLES",
            "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
        );
        // SAFETY: geteuid has no preconditions and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = own_user(&passwd).filter(|_| root);

        let mut handed = Vec::new();
        let mut lines = |files: &[(&str, Vec<u8>)]| {
            let mut lines = String::new();
            for (key, bytes) in files {
                let file = logins::in_memory(bytes, user)?;
                lines += &format!("{key} /dev/fd/{}\n", file.as_raw_fd());
                handed.push(file);
            }
            anyhow::Ok(lines)
        };
        let rules = lines(&self.files)?;
        let mut ports = vec![self.port];
        let mut house = String::new();
        if let Some(HouseBroker { port, files, .. }) = &self.house {
            ports.push(*port);
            let files = lines(files)?;
            house = format!(
                "listener {port} 0.0.0.0\nallow_anonymous false\nmax_connections {MOST_OF_A_LISTENER}\n{files}{rules}"
            );
        }
        let text = configuration(self.port, &rules, &house);
        let text = logins::in_memory(text.as_bytes(), user)?;
        command.arg("-c").arg("/dev/stdin").stdin(text);
        // Mosquitto as root would become its own user by itself, and the kernel then forgets that it is to
        // die with its parent. So it is started as that user.
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        // SAFETY: this process has one thread, so that its child may allocate before it becomes Mosquitto.
        unsafe {
            command.pre_exec(move || {
                for file in &handed {
                    // The others that are started must not get them.
                    if libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                cloister_sandbox::listens_only(&ports)
                    .map_err(|error| std::io::Error::other(error.to_string()))
            });
        }
        Ok(command)
    }
}

/// `rules`: who may log in, and who may do what; `house`: a further listener.
fn configuration(port: u16, rules: &str, house: &str) -> String {
    // `set_tcp_nodelay`: else the kernel holds a message back until the one before is acknowledged.
    // `user root` has an effect only where there is no user of its own: do not look for one.
    format!(
        "per_listener_settings true
listener {port} 127.0.0.1
allow_anonymous true
max_connections {MOST_OF_A_LISTENER}
{rules}{house}persistence false
user root
set_tcp_nodelay true
max_inflight_messages 64
max_queued_messages 20000
max_queued_bytes 67108864
max_packet_size 4194304
memory_limit 536870912
log_dest stderr
log_type error
log_type warning
"
    )
}

/// `mosquitto` on the path or where Debian puts it, which is not on everybody's path.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("mosquitto"))
        .find(|file| file.is_file())
}

/// User and group id of the user `mosquitto` in the text of a passwd file.
fn own_user(passwd: &str) -> Option<(u32, u32)> {
    let mut fields = passwd
        .lines()
        .find(|line| line.starts_with("mosquitto:"))?
        .split(':')
        .skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_found_among_others() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nmosquitto2:x:1:1::/:/bin/sh\nmosquitto:x:106:112::/var/lib/mosquitto:/usr/sbin/nologin\n";
        assert_eq!(own_user(passwd), Some((106, 112)));
        assert_eq!(own_user("root:x:0:0:root:/root:/bin/bash\n"), None);
    }
}
