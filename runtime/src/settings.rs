//! Where an option's value comes from: the command line, then `CLOISTER_*` in the environment (both
//! by `clap`), then `cloister.toml`, then the default.

use std::path::Path;

use cloister_program::config_file;
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

/// The table `[name]` of the configuration file, or an empty one without a file.
///
/// # Errors
/// [`WrongUse`] when the file cannot be read, is no TOML, or has a table or a key that nobody knows.
pub fn table<T: DeserializeOwned + Default>(file: Option<&Path>, name: &str) -> anyhow::Result<T> {
    Ok(config_file::table(file, name).map_err(|error| WrongUse(error.to_string()))?)
}
