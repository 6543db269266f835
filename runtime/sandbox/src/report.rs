//! What a process of the box tells about itself, for the page that shows it.
//!
//! In: its seal, what the kernel says about it, what it keeps. Out: a [`Report`], numbers and fixed words alone.
//! Must never hold text of users, a path, or an address.

use serde::{Deserialize, Serialize};

use crate::{Seal, Status};

/// What a process tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Which one it is.
    pub name: Name,
    /// What is enforced, as one line.
    pub seal: String,
    /// What the kernel cannot enforce.
    pub gaps: Vec<String>,
    /// What the kernel says about it now.
    pub status: Status,
    /// Connections over a network that it has opened since its start; nothing where nobody counts or refuses them.
    pub outgoing_connections: Option<u64>,
    /// What it keeps now.
    pub stored: Vec<Stored>,
    /// The latest order to erase everything that it has carried out.
    #[serde(default)]
    pub erased: Option<u64>,
}

/// The processes that report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// `cloister serve`.
    Serve,
    /// `cloister-bridge`.
    Bridge,
    /// `cloister-panel`.
    Panel,
}

/// Something that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// What it is.
    pub what: Kept,
    /// How many of it: asks, files.
    pub rows: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// The kinds of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Asks over MQTT that wait, run, or were answered within the last minute.
    Journal,
    /// Keyed hashes by which an ask over MQTT that comes again within a day is known, in the same file.
    Answered,
    /// The hashes of keys, and of paired browsers' cookies, with the names that the owner gave them.
    Access,
    /// What the model made of templates that the owner had stored.
    Templates,
}

impl Report {
    /// As it is now.
    pub fn now(
        name: Name,
        seal: &Seal,
        outgoing_connections: Option<u64>,
        stored: Vec<Stored>,
    ) -> Self {
        Self {
            name,
            seal: seal.line(),
            gaps: seal.gaps().into_iter().map(String::from).collect(),
            status: Status::now(),
            outgoing_connections,
            stored,
            erased: None,
        }
    }
}
