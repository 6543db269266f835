//! Logins for the broker that `up` starts: made once, kept for their owner.
//!
//! In: the state folder. Out: files with `user:password`, and what Mosquitto gets of them, which are hashes.
//! Must never leave a password where another user may read it.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cloister_program::private;

use crate::access;

/// The login of this user, in this file of the state folder: made, if none is there, or what a power cut left of one.
///
/// # Errors
/// The file cannot be written; the kernel gives no random bytes.
pub fn kept(state: &Path, name: &str, user: &str) -> Result<PathBuf> {
    let file = state.join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let password = text.strip_suffix('\n').and_then(|line| {
        let password = line.strip_prefix(user)?.strip_prefix(':')?;
        (!password.is_empty() && !password.contains('\n')).then_some(password)
    });
    if password.is_none() {
        write(&file, format!("{user}:{}\n", access::password()?))?;
    }
    Ok(file)
}

/// The logins as Mosquitto keeps them.
///
/// # Errors
/// The state folder cannot be read or written; Mosquitto's programs are missing.
pub fn hashed(state: &Path, logins: &[&Path]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for login in logins {
        let one = std::fs::read(login);
        text.extend(one.with_context(|| format!("cannot read {}", login.display()))?);
    }
    let file = state.join("mqtt-logins.hashed");
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

fn write(file: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    private::replace(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// A file that lies nowhere, of which this user is the owner.
pub fn in_memory(bytes: &[u8], owner: Option<(u32, u32)>) -> Result<OwnedFd> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_kept_once_for_the_owner_and_given_on_as_a_hash() {
        let state = tempfile::tempdir().unwrap();
        let made = || ["one", "two"].map(|user| kept(state.path(), user, user).unwrap());
        let [one, two] = made();
        let hashed = hashed(state.path(), &[&one, &two]).unwrap();
        let hashed = String::from_utf8(hashed).unwrap();
        for (file, user) in [(&one, "one"), (&two, "two")] {
            let login = std::fs::read_to_string(file).unwrap();
            let password = login.trim().strip_prefix(&format!("{user}:")).unwrap();
            assert_eq!(password.len(), 32);
            assert!(hashed.contains(&format!("{user}:$")) && !hashed.contains(password));
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            made();
            assert_eq!(std::fs::read_to_string(file).unwrap(), login);
        }
        // Nothing of it stays but they.
        assert_eq!(state.path().read_dir().unwrap().count(), 2);
    }

    #[test]
    fn what_a_power_cut_left_of_a_login_is_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("login");
        for left in [
            "",
            "me",
            "me:",
            "me:\n",
            "me:6f1a",
            "you:6f1a\n",
            "me:a\nb\n",
            "\0\0\0",
        ] {
            std::fs::write(&file, left).unwrap();
            kept(state.path(), "login", "me").unwrap();
            let login = std::fs::read_to_string(&file).unwrap();
            assert_eq!(login.len(), "me:\n".len() + 32, "{left:?}: {login:?}");
            hashed(state.path(), &[&file]).unwrap();
        }
        // The owner's own.
        std::fs::write(&file, "me:o:wn\n").unwrap();
        kept(state.path(), "login", "me").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "me:o:wn\n");
    }
}
