//! Where an option's value comes from: the command line, then `CLOISTER_*` in the environment (both
//! by `clap`), then `cloister.toml`, then the default.

use std::path::Path;

use anyhow::Context;
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
/// [`WrongUse`] when the file cannot be read, is no TOML, or has a key that `T` does not know.
pub fn table<T: DeserializeOwned + Default>(file: Option<&Path>, name: &str) -> anyhow::Result<T> {
    let Some(file) = file else {
        return Ok(T::default());
    };
    let wrong = |error: &dyn std::fmt::Display| WrongUse(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file)
        .map_err(|e| wrong(&e))
        .context("cannot read the configuration")?;
    let mut tables: toml::Table = toml::from_str(&text).map_err(|e| wrong(&e))?;
    match tables.remove(name) {
        None => Ok(T::default()),
        Some(table) => Ok(table
            .try_into()
            .map_err(|e| wrong(&format!("[{name}]: {e}")))?),
    }
}
