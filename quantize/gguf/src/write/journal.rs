//! How much of a partial file is safe on the disk, and what it is made from: a text file beside it,
//! `OUT.partial.journal`.
//!
//! Its first line names the format, its second the bytes that are safe; the others are the identity,
//! a name, a tab and a value each. It is replaced as a whole, so that a power cut leaves the old one
//! or the new one. It must never claim bytes that were not synced before.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Identity;
use crate::{Error, Result};

const FIRST_LINE: &str = "unfinished GGUF file, format 1";

/// No journal is larger: one line for each file of a checkpoint, and a few.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    identity: Identity,
}

impl Journal {
    pub fn new(partial: &Path, identity: Identity) -> Journal {
        let path = journal_path(partial);
        // A line for each, whatever a file is called.
        let one_line = |text: String| text.replace(['\n', '\r', '\t'], " ");
        let identity = identity.into_iter();
        let identity = identity
            .map(|(name, value)| (one_line(name), one_line(value)))
            .collect();
        Journal { path, identity }
    }

    /// The journal of `partial` and the bytes that it says are safe; `None` if there is none that
    /// can be read.
    pub fn read(partial: &Path) -> Result<Option<(Journal, u64)>> {
        let path = journal_path(partial);
        let text = match fs::metadata(&path) {
            Ok(stat) if stat.len() > MAX_BYTES => return Ok(None),
            Ok(_) => fs::read(&path).map_err(Error::io(&path, "read"))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, "read")(error)),
        };
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Ok(None);
        }
        let Some(synced) = lines.next().and_then(|line| line.parse().ok()) else {
            return Ok(None);
        };
        let pair = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let Some(identity) = lines.map(pair).collect() else {
            return Ok(None);
        };
        Ok(Some((Journal { path, identity }, synced)))
    }

    /// Says what the work of `wanted` has otherwise, if anything.
    pub fn difference(&self, wanted: &Identity) -> Option<String> {
        let wanted = &Journal::new(Path::new(""), wanted.clone()).identity;
        let value = |of: &Identity, name: &str| {
            let found = of.iter().find(|(other, _)| other == name);
            found.map_or("nothing".to_owned(), |(_, value)| value.clone())
        };
        let names = self.identity.iter().chain(wanted).map(|(name, _)| name);
        for name in names {
            let (had, has) = (value(&self.identity, name), value(wanted, name));
            if had != has {
                return Some(format!("it was begun with {name} {had}, now it is {has}"));
            }
        }
        None
    }

    /// Replaces the journal, and returns when the new one is on the disk.
    pub fn write(&self, synced: u64) -> Result<()> {
        let mut text = format!("{FIRST_LINE}\n{synced}\n");
        for (name, value) in &self.identity {
            text.push_str(&format!("{name}\t{value}\n"));
        }
        let new = self.path.with_extension("journal.new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(Error::io(&new, "write"))?;
        fs::rename(&new, &self.path).map_err(Error::io(&self.path, "write"))
    }

    /// Removes the journal of `partial`, if there is one.
    pub fn remove(partial: &Path) -> Result<()> {
        let path = journal_path(partial);
        for path in [path.with_extension("journal.new"), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(&path, "remove")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn journal_path(partial: &Path) -> PathBuf {
    let mut name = partial.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}
