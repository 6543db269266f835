//! `cloister pair` and `cloister keys`: the owner says who may use the box from the network.
//!
//! In: the state folder that `serve` uses. Out: a code or a key, shown once. `serve` need not run, nor be started again.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cloister_program::output;
use serde::Deserialize;

use super::{Access, CODE_LASTS, Scope, check_name};
use crate::settings::{self, WrongUse};

/// Which box.
#[derive(Args)]
pub struct Place {
    /// The state folder of `serve` [default: ~/.local/state/cloister].
    #[arg(long, env = "CLOISTER_STATE", value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// The TOML file that `serve` is started with.
    #[arg(long, env = "CLOISTER_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

/// Of `[serve]` and `[up]`, where the state folder may stand.
#[derive(Default, Deserialize)]
struct Table {
    state: Option<PathBuf>,
}

impl Place {
    fn access(&self) -> anyhow::Result<Access> {
        let file = self.config.as_deref();
        let serve: Table = settings::table(file, "serve")?;
        let up: Table = settings::table(file, "up")?;
        let state = self.state.clone().or(serve.state).or(up.state);
        Ok(Access::of(&settings::state_folder(state)?))
    }
}

/// Options of `cloister pair`.
#[derive(Args)]
pub struct PairArgs {
    /// What the paired browser may do.
    #[arg(long, value_enum, default_value = "ask")]
    scope: Scope,
    #[command(flatten)]
    place: Place,
}

/// Options of `cloister keys`.
#[derive(Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a key for a program, and show it once.
    Add {
        /// What to call it by.
        name: String,
        /// What it may do.
        #[arg(long, value_enum, default_value = "ask")]
        scope: Scope,
        /// What it asks can wait while a person does, unless it says otherwise.
        #[arg(long)]
        automation: bool,
    },
    /// List who was let in: programs with keys, and paired browsers.
    List,
    /// Let somebody in no more.
    Revoke {
        /// Whom.
        name: String,
    },
}

/// Shows a pairing code.
///
/// # Errors
/// The state folder cannot be written.
pub fn pair(args: &PairArgs) -> anyhow::Result<()> {
    let code = args.place.access()?.new_code(args.scope)?;
    output::print(format_args!(
        "{}\nGood once, for {} minutes: open /pair of the box's page in the browser that is to be let in.",
        spaced(&code),
        CODE_LASTS.as_secs() / 60
    ))?;
    Ok(())
}

/// A code as people read it.
pub fn spaced(code: &str) -> String {
    let (first, second) = code.split_at(code.len() / 2);
    format!("{first} {second}")
}

/// Adds, lists or revokes.
///
/// # Errors
/// A name that is taken or unknown; a state folder that cannot be written.
pub fn keys(args: &KeysArgs) -> anyhow::Result<()> {
    let access = args.place.access()?;
    match &args.command {
        KeysCommand::Add {
            name,
            scope,
            automation,
        } => {
            check_name(name).map_err(WrongUse)?;
            output::print(access.add(name, *scope, *automation)?)?;
            eprintln!(
                "Kept nowhere: write it down now. Programs send it as `Authorization: Bearer ...`, as their API key."
            );
        }
        KeysCommand::List => {
            for key in access.keys()? {
                let added = std::time::UNIX_EPOCH + std::time::Duration::from_secs(key.added);
                let added = humantime::format_rfc3339_seconds(added);
                let waits = if key.automation { "  (automation)" } else { "" };
                output::print(format_args!(
                    "{:5}  {added}  {}{waits}",
                    key.scope.name(),
                    key.name
                ))?;
            }
        }
        KeysCommand::Revoke { name } => {
            if !access.revoke(name)? {
                anyhow::bail!("there is no key {name:?}; see `cloister keys list`");
            }
        }
    }
    Ok(())
}
