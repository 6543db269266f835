//! Where an option's value comes from: the command line, then `CLOISTER_*` in the environment (both
//! by `clap`), then `cloister.toml`, then the default.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cloister_program::{config_file, private};
use serde::de::DeserializeOwned;

/// A mistake in how the program was called: exit code 2.
#[derive(Debug)]
pub struct WrongUse(pub String);

impl std::fmt::Display for WrongUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

/// Refuses a number of threads that no product of matrices is worth starting with.
pub fn check_threads(threads: Option<usize>) -> Result<(), WrongUse> {
    let most = std::thread::available_parallelism().map_or(1, |n| n.get());
    match threads {
        Some(0) => Err(WrongUse("threads must be 1 or more, not 0".to_owned())),
        Some(given) if given > most => Err(WrongUse(format!(
            "threads must be {most} or less, not {given}: with more than there are processors here, they wait for each other"
        ))),
        _ => Ok(()),
    }
}

/// The table `[name]` of the configuration file, or an empty one without a file.
///
/// # Errors
/// [`WrongUse`] when the file cannot be read, is no TOML, or has a table or a key that nobody knows.
pub fn table<T: DeserializeOwned + Default>(file: Option<&Path>, name: &str) -> anyhow::Result<T> {
    Ok(config_file::table(file, name).map_err(|error| WrongUse(error.to_string()))?)
}

/// The state folder, made for its owner alone if it is not there, and closed to strangers if it is, as an absolute path.
/// Unless given it is one in the user's home, wherever the program was started from.
pub fn state_folder(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder,
        None => std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".local/state")))
            .context("there is no home folder; say --state DIR")?
            .join("cloister"),
    };
    private::folder(&folder)
        .and_then(|()| folder.canonicalize())
        .with_context(|| format!("cannot use the state folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let folder = state_folder(Some(scratch.path().join("a/b"))).unwrap();
        assert!(folder.is_absolute());
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
