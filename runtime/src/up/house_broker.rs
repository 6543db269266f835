//! The broker's second listener: for the house, by TLS, with a login and a list of what it may do.
//!
//! In: the state folder, the box's name, its recipes. Out: lines for Mosquitto's configuration, and the files that they
//! name, which Mosquitto gets open and which lie nowhere. The login is made once, and kept for the owner.
//! Must never let the house answer in the box's name.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cloister_program::node::Node;

use crate::access;

/// Where clients look first.
const USUAL_PORT: u16 = 8883;

/// Who the house is to the broker.
pub const USER: &str = "house";

/// What the house may publish, below the box's own topics.
const FOR_THE_BOX: [&str; 6] = [
    "ask",
    "cancel",
    "stop",
    "warm-up",
    "default/model/set",
    "default/think/set",
];

/// The listener for the house.
pub struct HouseBroker {
    /// Its port.
    pub port: u16,
    /// The file with its login, `user:password`.
    pub login: PathBuf,
    files: [(&'static str, Vec<u8>); 4],
}

impl HouseBroker {
    /// With the certificate of the state folder, which must be there, and a login, made if there is none.
    ///
    /// # Errors
    /// The state folder cannot be read or written; Mosquitto's programs are missing.
    pub fn prepare(
        state: &Path,
        certificate: &Path,
        node: &Node,
        recipes: &[String],
    ) -> Result<Self> {
        let login = state.join("mqtt-login");
        if !login.exists() {
            write(
                &login,
                format!("{USER}:{}\n", access::password()?).as_bytes(),
            )?;
        }
        let read = |file: &Path| {
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let files = [
            ("certfile", read(&certificate.join("cert.pem"))?),
            ("keyfile", read(&certificate.join("key.pem"))?),
            ("password_file", hashed(&login)?),
            ("acl_file", rights(node, recipes).into_bytes()),
        ];
        Ok(Self {
            port: free_port()?,
            login,
            files,
        })
    }

    /// The lines of the configuration, and hands the files on to the program.
    pub fn hand_to(&self, command: &mut Command, owner: Option<(u32, u32)>) -> Result<String> {
        let mut lines = format!("listener {} 0.0.0.0\nallow_anonymous false\n", self.port);
        let mut open = Vec::new();
        for (key, bytes) in &self.files {
            let file = in_memory(bytes, owner)?;
            lines += &format!("{key} /dev/fd/{}\n", file.as_raw_fd());
            open.push(file);
        }
        // SAFETY: between fork and exec only async-signal-safe calls are allowed, which fcntl is.
        unsafe {
            command.pre_exec(move || {
                for file in &open {
                    // The others that are started must not get them.
                    if libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        Ok(lines)
    }
}

/// What the house may do: read everything, ask, and use topics of its own.
fn rights(node: &Node, recipes: &[String]) -> String {
    let mut lines = format!("user {USER}\ntopic read #\n");
    for leaf in FOR_THE_BOX {
        lines += &format!("topic write cloister/{node}/{leaf}\n");
    }
    lines += "topic write cloister/pool/+/ask\ntopic write cloister/pool/+/cancel\n";
    for own in ["house/#", "homeassistant/#"] {
        lines += &format!("topic readwrite {own}\n");
    }
    // The bridge refuses recipes on the boxes' own topics; one that slipped through would open them here.
    let own =
        |topic: &&String| topic.starts_with(['#', '+', '$']) || topic.starts_with("cloister/");
    for topic in recipes.iter().filter(|topic| !own(topic)) {
        lines += &format!("topic write {topic}\n");
    }
    lines
}

/// The login as Mosquitto keeps it.
fn hashed(login: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read(login).with_context(|| format!("cannot read {}", login.display()))?;
    let file = login.with_extension("hashed");
    write(&file, &text)?;
    let outcome = Command::new("mosquitto_passwd")
        .arg("-U")
        .arg(&file)
        .output()
        .context("cannot start mosquitto_passwd, which comes with mosquitto");
    let hashed = std::fs::read(&file);
    std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
    let output = outcome?;
    let hashed = hashed.with_context(|| file.display().to_string())?;
    ensure!(
        output.status.success() && hashed != text,
        "mosquitto_passwd: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(hashed)
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// A file that lies nowhere, of which this user is the owner.
fn in_memory(bytes: &[u8], owner: Option<(u32, u32)>) -> Result<OwnedFd> {
    // SAFETY: the name is a C string; the descriptor is ours alone.
    let file = unsafe {
        let number = libc::memfd_create(c"mosquitto".as_ptr(), libc::MFD_CLOEXEC);
        if number < 0 {
            return Err(std::io::Error::last_os_error()).context("cannot make a file in memory");
        }
        OwnedFd::from_raw_fd(number)
    };
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    Ok(file.into())
}

fn free_port() -> Result<u16> {
    let usual = TcpListener::bind((Ipv4Addr::UNSPECIFIED, USUAL_PORT));
    let listener = usual.or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address
        .context("no port is free for the house's broker")?
        .port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_asks_and_never_answers() {
        let node = Node::parse("attic").unwrap();
        let rights = rights(&node, &["home/+/text".to_owned()]);
        let may_write: Vec<&str> = rights
            .lines()
            .filter(|line| line.contains("write"))
            .filter_map(|line| line.rsplit(' ').next())
            .collect();
        assert!(may_write.contains(&"cloister/attic/ask") && may_write.contains(&"home/+/text"));
        for topic in may_write {
            assert!(
                !topic.starts_with('#') && !topic.starts_with('+'),
                "{topic}"
            );
            for never in ["answer", "stream", "status", "state"] {
                assert!(!topic.contains(never), "{topic}");
            }
        }
    }

    #[test]
    fn the_login_is_kept_once_for_the_owner_and_given_on_as_a_hash() {
        let state = tempfile::tempdir().unwrap();
        for file in ["cert.pem", "key.pem"] {
            std::fs::write(state.path().join(file), file).unwrap();
        }
        let node = Node::parse("attic").unwrap();
        let prepare = || HouseBroker::prepare(state.path(), state.path(), &node, &[]).unwrap();
        let broker = prepare();
        let login = std::fs::read_to_string(&broker.login).unwrap();
        let password = login.trim().strip_prefix("house:").unwrap();
        assert_eq!(password.len(), 32);
        let (_, kept) = &broker.files[2];
        assert!(!String::from_utf8_lossy(kept).contains(password));
        prepare();
        assert_eq!(std::fs::read_to_string(&broker.login).unwrap(), login);
        let mode = broker.login.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
