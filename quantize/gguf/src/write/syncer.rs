//! A thread that moves a file to the disk while it is being written, and notes in the journal how
//! far that has come.
//!
//! In: how many bytes are written. Out: a journal that claims them once they are safe. Its caller
//! waits while an earlier part is still on its way, so that little of the file is ever in memory only.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::journal::Journal;
use crate::{Error, Result};

#[derive(Debug)]
pub struct Syncer {
    ends: Option<SyncSender<u64>>,
    thread: Option<JoinHandle<Result<(Journal, u64)>>>,
}

impl Syncer {
    /// Syncs `file`, of which `end` bytes are written, journals them, and starts the thread. `out` is
    /// for errors.
    pub fn start(file: File, out: &Path, journal: Journal, end: u64) -> Result<Syncer> {
        file.sync_data().map_err(Error::io(out, "write"))?;
        journal.write(end)?;
        // Without room: to hand over a part is to wait for the one before it.
        let (ends, parts) = sync_channel(0);
        let path = out.to_owned();
        let thread = std::thread::spawn(move || work(&file, &path, journal, end, &parts));
        Ok(Syncer {
            ends: Some(ends),
            thread: Some(thread),
        })
    }

    /// Has the first `end` bytes synced, as soon as the part before is.
    pub fn sync(&mut self, end: u64) -> Result<()> {
        match &self.ends {
            Some(ends) if ends.send(end).is_ok() => Ok(()),
            // The thread has ended, which it does only with an error.
            _ => self.join().map(drop),
        }
    }

    /// Waits for the sync under way.
    pub fn end(mut self) -> Result<()> {
        self.join().map(drop)
    }

    /// Waits, and journals all that was synced. Gives its bytes.
    pub fn end_with_journal(mut self) -> Result<u64> {
        match self.join()? {
            Some((journal, synced)) => journal.write(synced).map(|()| synced),
            None => Ok(0),
        }
    }

    /// What the thread ended with; `None` if that was said before.
    fn join(&mut self) -> Result<Option<(Journal, u64)>> {
        self.ends = None;
        let ended = self.thread.take().map(JoinHandle::join);
        let ended = ended.map(|thread| thread.expect("the syncing thread panicked"));
        ended.transpose()
    }
}

fn work(
    file: &File,
    out: &Path,
    journal: Journal,
    mut synced: u64,
    parts: &Receiver<u64>,
) -> Result<(Journal, u64)> {
    for end in parts {
        file.sync_data().map_err(Error::io(out, "write"))?;
        synced = end;
        journal.write(synced)?;
    }
    Ok((journal, synced))
}
