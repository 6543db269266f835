//! Options: the command line, the environment and `[panel]` of `cloister.toml`, in that order of precedence.
//!
//! In: arguments, `CLOISTER_*` variables, a file. Out: [`Settings`].

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use cloister_program::config_file;
use serde::Deserialize;

use crate::board::devices::Devices;

/// Shows what the box does, takes presses of its buttons, and keeps it cool.
#[derive(Parser)]
#[command(
    name = "cloister-panel",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
    /// The Unix socket of `cloister serve`
    #[arg(long, env = "CLOISTER_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A file that is made when the button is held for three seconds, for a unit that then shuts the machine down
    /// [default: none, and the machine stays on]
    #[arg(long, env = "CLOISTER_SHUTDOWN_FILE", value_name = "PATH")]
    shutdown_file: Option<PathBuf>,
    /// Draw a simulated board in this terminal, in place of this machine's
    #[arg(long)]
    simulate: bool,
}

#[derive(Args)]
struct Common {
    /// The board, by its name [default: found out]
    #[arg(long, env = "CLOISTER_BOARD", value_name = "NAME")]
    board: Option<String>,
    /// A TOML file; its table `[panel]` has these options as keys, and the board's devices
    #[arg(long, env = "CLOISTER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// List which devices were found, what is missing, and what the panel would do.
    Probe {
        #[command(flatten)]
        common: Common,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// The table `[panel]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    board: Option<String>,
    socket: Option<PathBuf>,
    shutdown_file: Option<PathBuf>,
    devices: Devices,
}

/// What is to be done.
pub struct Settings {
    /// The board's name, if the owner says it.
    pub board: Option<String>,
    /// What the owner has wired to it.
    pub devices: Devices,
    /// What to do with it.
    pub task: Task,
}

/// What to do.
pub enum Task {
    /// List what was found.
    Probe {
        /// As JSON.
        json: bool,
    },
    /// Watch over the box.
    Watch {
        /// The socket of `serve`.
        socket: PathBuf,
        /// What is made to shut the machine down.
        shutdown_file: Option<PathBuf>,
        /// Whether the board is a simulated one.
        simulate: bool,
    },
}

impl Settings {
    /// What holds: of the command line and the environment, else of the file.
    ///
    /// # Errors
    /// The file cannot be used, or no socket is given.
    pub fn gather(arguments: Arguments) -> Result<Self> {
        let Arguments {
            command,
            common,
            socket,
            shutdown_file,
            simulate,
        } = arguments;
        let (common, probe) = match command {
            Some(Command::Probe { common, json }) => (common, Some(json)),
            None => (common, None),
        };
        let file: Table = config_file::table(common.config.as_deref(), "panel")?;
        let task = match (probe, socket.or(file.socket)) {
            (Some(json), _) => Task::Probe { json },
            (None, None) => bail!("say where `cloister serve` is: --socket PATH"),
            (None, Some(socket)) => Task::Watch {
                socket,
                shutdown_file: shutdown_file
                    .or(file.shutdown_file)
                    .map(|file| in_a_folder(&file))
                    .transpose()?,
                simulate,
            },
        };
        Ok(Self {
            board: common.board.or(file.board),
            devices: file.devices,
            task,
        })
    }
}

/// Its whole path, if it can be made: else that would be known only when it is needed.
fn in_a_folder(file: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(file)?;
    let folder = whole.parent().unwrap_or(&whole);
    if !folder.is_dir() {
        let (file, folder) = (file.display(), folder.display());
        bail!(
            "--shutdown-file {file}: there is no folder {folder}; make it, or name a file in another"
        );
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_file_that_could_not_be_made_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let asks = |file: &str| {
            let file = folder.path().join(file);
            let arguments = ["cloister-panel", "--socket", "s", "--shutdown-file"];
            let arguments = arguments
                .map(Into::into)
                .into_iter()
                .chain([file.into_os_string()]);
            Settings::gather(Arguments::parse_from(arguments)).map(|_| ())
        };
        asks("shutdown").unwrap();
        let error = asks("none/shutdown").unwrap_err().to_string();
        assert!(error.contains("there is no folder"), "{error}");
    }
}
