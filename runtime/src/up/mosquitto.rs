//! A Mosquitto of our own: on loopback, for this machine's programs, keeping nothing; for the house where it is wanted.
//!
//! In: the state folder, a port, and maybe what the house needs. Out: the command that starts it.
//! It opens no connection and writes no file: the kernel refuses it.
//! Must never listen on another interface without a login, and must never touch a Mosquitto that runs already.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::house_broker::HouseBroker;

/// Where clients look first, and the port next to it: Debian's package starts a Mosquitto of its own, and
/// automations need a port that stays the same.
const USUAL_PORTS: [u16; 2] = [1883, 1884];

/// The first of the usual ports where nobody listens, else any free one.
pub fn choose_port() -> Result<u16> {
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

/// Mosquitto with a configuration written into the state folder.
///
/// # Errors
/// Mosquitto is not installed; the state folder cannot be written.
pub fn command(state: &Path, port: u16, house: Option<&HouseBroker>) -> Result<Command> {
    let program =
        find().context("mosquitto is not installed; install it with: apt-get install mosquitto")?;
    let mut command = Command::new(program);
    // SAFETY: geteuid has no preconditions and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = own_user(&passwd).filter(|_| root);
    let ports: Vec<u16> = [Some(port), house.map(|house| house.port)]
        .into_iter()
        .flatten()
        .collect();
    let house = house.map(|house| house.hand_to(&mut command, user));
    let house = house.transpose()?.unwrap_or_default();
    let path = state.join("mosquitto.conf");
    std::fs::write(&path, configuration(port, &house))
        .and_then(|()| {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        })
        .with_context(|| format!("cannot write {}", path.display()))?;
    // Through standard input: the user that Mosquitto runs as may not be able to reach the folder.
    command.arg("-c").arg("/dev/stdin").stdin(
        File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path)
            .with_context(|| format!("cannot read {}", path.display()))?,
    );
    // Mosquitto as root would become its own user by itself, and the kernel then forgets that it is to
    // die with its parent. So it is started as that user.
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    // SAFETY: this process has one thread, so that its child may allocate before it becomes Mosquitto.
    unsafe {
        command.pre_exec(move || {
            cloister_sandbox::listens_only(&ports)
                .map_err(|error| std::io::Error::other(error.to_string()))
        });
    }
    Ok(command)
}

fn configuration(port: u16, house: &str) -> String {
    // `set_tcp_nodelay`: else the kernel holds a message back until the one before is acknowledged.
    // `user root` has an effect only where there is no user of its own: do not look for one.
    format!(
        "# Written by `cloister up` at each start.
per_listener_settings true
listener {port} 127.0.0.1
allow_anonymous true
{house}persistence false
user root
set_tcp_nodelay true
max_inflight_messages 64
max_queued_messages 20000
max_queued_bytes 67108864
max_packet_size 4194304
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
