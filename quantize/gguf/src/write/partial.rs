//! The file before it has its final name, in the folder of the final name.
//!
//! A hidden one is its process's own and is removed when dropped. A named one, `OUT.partial`, stays;
//! it is locked while somebody writes it. It must never have the final name before it is whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::journal::Journal;
use crate::{Error, Result};

#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    /// Removed when dropped.
    hidden: bool,
}

impl Partial {
    /// Creates a file with a hidden name beside `out`. What a killed process left under such a
    /// name, perhaps one of our own id, is stepped over.
    pub fn hidden(out: &Path) -> Result<(File, Partial)> {
        let name = file_name(out)?;
        let process = std::process::id();
        let mut attempt = 0;
        loop {
            let path = folder_of(out).join(format!(".{name}.{process}-{attempt}.partial"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, Partial { path, hidden: true })),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => {
                    attempt += 1;
                }
                Err(error) => return Err(Error::io(out, "create")(error)),
            }
        }
    }

    /// The resumable file of `out`, created if it is not there.
    pub fn named(out: &Path) -> Result<(File, Partial)> {
        let path = partial_path(out)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io(out, "create"))?;
        Partial::lock(file, path)
    }

    /// The resumable file of `out`, if it is there.
    pub fn existing(out: &Path) -> Result<Option<(File, Partial)>> {
        let path = partial_path(out)?;
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Partial::lock(file, path).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, "open")(error)),
        }
    }

    fn lock(file: File, path: PathBuf) -> Result<(File, Partial)> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy { path });
            }
            // A file system without locks: then nobody is kept out.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, "lock")(error)),
        }
        let hidden = false;
        Ok((file, Partial { path, hidden }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name and syncs the folder.
    pub fn rename(&mut self, out: &Path) -> Result<()> {
        std::fs::rename(&self.path, out).map_err(Error::io(out, "rename"))?;
        // Nothing of this name is left to remove.
        let resumable = !std::mem::replace(&mut self.hidden, false);
        let sync = Error::io(out, "sync the folder of");
        let folder = File::open(folder_of(out)).and_then(|folder| folder.sync_all());
        folder.map_err(sync)?;
        if resumable {
            Journal::remove(&self.path)?;
        }
        Ok(())
    }

    /// Removes it, and the journal of a resumable one.
    pub fn remove(&mut self) {
        // A failure leaves a file that says by its name what it is.
        let _ = std::fs::remove_file(&self.path);
        if !self.hidden {
            let _ = Journal::remove(&self.path);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.hidden {
            self.remove();
        }
    }
}

/// The name that the unfinished, resumable file of `out` has.
pub fn partial_path(out: &Path) -> Result<PathBuf> {
    Ok(folder_of(out).join(format!("{}.partial", file_name(out)?)))
}

fn file_name(out: &Path) -> Result<std::borrow::Cow<'_, str>> {
    let missing = || Error::io(out, "create")(std::io::Error::other("it has no file name"));
    Ok(out.file_name().ok_or_else(missing)?.to_string_lossy())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
