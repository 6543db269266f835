//! What the programs have in common: how they are called, configured and awaited.
//!
//! In: `cloister.toml`. Out: values, or errors that fit into one line.
//! Must never open a connection, nor know what any one program does.

pub mod config_file;
