//! What the model files say about themselves, read again only when a file has changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use cloister_engine::{Card, LoadError};

/// The cards that have been read.
#[derive(Default)]
pub struct Cards(Mutex<HashMap<PathBuf, Arc<Card>>>);

impl Cards {
    /// The card of the model in `file`.
    ///
    /// # Errors
    /// [`LoadError`] when it is no sound model, or not there any more.
    pub async fn of(&self, file: &Path) -> Result<Arc<Card>, LoadError> {
        let now = std::fs::metadata(file).ok();
        let same = |card: &&Arc<Card>| {
            let changed = |at: &SystemTime| *at != card.modified;
            now.as_ref().is_some_and(|now| {
                now.len() == card.bytes && !now.modified().is_ok_and(|at| changed(&at))
            })
        };
        let known = self.known().get(file).filter(same).cloned();
        if let Some(card) = known {
            return Ok(card);
        }
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || Card::read(&path));
        let card = Arc::new(read.await.expect("reading does not panic")?);
        self.known().insert(file.to_owned(), card.clone());
        Ok(card)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Card>>> {
        self.0.lock().expect("no panic while held")
    }
}
