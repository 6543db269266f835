//! The model that embeds: one at a time is loaded, beside the one that answers, whichever is asked for.
//!
//! In: a file whose header says that it embeds. Out: the loaded model, held for as long as it is used. It stays for as
//! long as one that answers does when nobody asks.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use cloister_engine::{Embedder, LoadError, Options};

use super::idle::{Idle, Stay};

/// The place of the loaded one.
pub struct Embedders {
    options: Options,
    idle: Idle,
    current: Mutex<Option<Arc<Embedder>>>,
    /// Held while one is loaded.
    loading: tokio::sync::Mutex<()>,
}

impl Embedders {
    pub fn new(options: Options, stay: Stay) -> Arc<Self> {
        Arc::new(Self {
            options,
            idle: Idle::new(stay),
            current: Mutex::new(None),
            loading: tokio::sync::Mutex::new(()),
        })
    }

    /// The loaded one.
    pub fn current(&self) -> Option<Arc<Embedder>> {
        self.lock().clone()
    }

    /// How long it stays when nobody asks it.
    pub fn idle(&self) -> &Idle {
        &self.idle
    }

    /// The model in `file`; loaded in the place of another one if need be.
    pub async fn get(self: &Arc<Self>, file: &Path) -> Result<Arc<Embedder>, LoadError> {
        let (embedders, file) = (self.clone(), file.to_owned());
        // A task of its own: who asked may go away, and then no second one is to be loaded beside this one.
        let loaded = tokio::spawn(async move {
            let _loading = embedders.loading.lock().await;
            let same = |one: &Arc<Embedder>| one.runs() && one.info().path == file;
            if let Some(embedder) = embedders.current().filter(same) {
                return Ok(embedder);
            }
            // Whom the one before still works for holds it until then.
            free(embedders.take()).await;
            let options = embedders.options.clone();
            let loading = tokio::task::spawn_blocking(move || Embedder::load(&file, &options));
            let embedder = Arc::new(loading.await.expect("loading does not panic")?);
            *embedders.lock() = Some(embedder.clone());
            embedders.idle.loaded();
            Ok(embedder)
        });
        loaded.await.expect("loading does not panic")
    }

    /// Frees the loaded one if it is of `file`.
    pub async fn rest(&self, file: &Path) {
        let _loading = self.loading.lock().await;
        if self.current().is_some_and(|one| one.info().path == file) {
            free(self.take()).await;
        }
    }

    /// Frees the loaded one if nobody has asked it for as long as it was to stay.
    pub async fn rest_if_idle(&self) {
        // One is held here, one by `current`, and one by each request that it works for.
        match self.current() {
            Some(embedder) if Arc::strong_count(&embedder) > 2 => self.idle.not_now(),
            Some(embedder) if self.idle.is_over() => {
                let path = embedder.info().path.clone();
                drop(embedder);
                self.rest(&path).await;
            }
            _ => {}
        }
    }

    fn take(&self) -> Option<Arc<Embedder>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Embedder>>> {
        self.current.lock().expect("no panic while held")
    }
}

/// Waits until its thread has ended and its memory is free.
async fn free(embedder: Option<Arc<Embedder>>) {
    let freed = tokio::task::spawn_blocking(|| drop(embedder));
    freed.await.expect("freeing a model does not panic");
}
