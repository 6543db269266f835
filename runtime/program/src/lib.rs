//! What the programs have in common: how they are called, configured and awaited.
//!
//! In: arguments, the environment, `cloister.toml`. Out: values, or errors that fit into one line.
//! Must never open a connection, nor know what any one program does.

pub mod command_line;
pub mod config_file;
#[cfg(feature = "documents")]
mod documents;
pub mod node;
pub mod output;
pub mod panel;
pub mod panics;
pub mod private;
pub mod readiness;
pub mod topics;
