//! The loaded model goes: nobody asks it, somebody wants it gone, or the box is stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloister_engine::id_of as id;
use cloister_engine::{Client, Engine};

use super::{DEFAULT, Models};
use crate::serve::api_error::ApiError;
use crate::serve::idle;

/// How often a model that is to go is looked at again while it still answers.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

impl Models {
    /// Ends all answers and frees what was computed for anybody, whoever still reads: at once.
    pub async fn forget(&self) {
        self.restraint().stop_all();
        self.rests.store(true, Ordering::Relaxed);
        let engine = self.current.write().expect("no panic while held").take();
        if let Some(engine) = engine {
            engine.end().await;
            free(engine).await;
        }
        let embedder = self.embedders.current();
        let embedder = embedder.map(|embedder| embedder.info().path.clone());
        if let Some(file) = embedder {
            self.embedders.rest(&file).await;
        }
    }

    /// Frees the model `name` if it is loaded, once it has answered whom it answers. Gives its full name.
    pub async fn rest(&self, name: Option<&str>) -> Result<String, ApiError> {
        let file = self.file(name.unwrap_or(DEFAULT))?;
        self.embedders.rest(&file).await;
        let _loading = self.loading.lock().await;
        let loaded = self.current();
        if loaded.is_some_and(|engine| engine.info().path == file) {
            self.rests.store(true, Ordering::Relaxed);
            self.drain().await;
        }
        Ok(id(&file))
    }

    /// Has the model `name` stay no longer on account of `client`. Gives its full name.
    pub fn let_go(&self, name: Option<&str>, client: &Client) -> Result<String, ApiError> {
        let file = self.file(name.unwrap_or(DEFAULT))?;
        let at_once = Some(Some(Duration::ZERO));
        if self.current().is_some_and(|one| one.info().path == file) {
            self.idle.asked(client, at_once);
        }
        let embedder = self.embedders.current();
        if embedder.is_some_and(|one| one.info().path == file) {
            self.embedders.idle().asked(client, at_once);
        }
        Ok(id(&file))
    }

    /// Frees the loaded model whenever its time is over; the next request loads it again.
    pub async fn rest_when_idle(&self) {
        loop {
            tokio::time::sleep(idle::LOOK_EVERY).await;
            self.embedders.rest_if_idle().await;
            let Some(engine) = self.current() else {
                continue;
            };
            // One is held here, one by `current`, and one by each request that it answers.
            if Arc::strong_count(&engine) > 2 {
                self.idle.not_now();
                continue;
            }
            if !self.idle.is_over() {
                continue;
            }
            let _loading = self.loading.lock().await;
            let name = engine.info().id.clone();
            drop(engine);
            if self.idle.is_over()
                && let Some(engine) = self.take_unused()
            {
                self.rests.store(true, Ordering::Relaxed);
                free(engine).await;
                tracing::info!("{name} rests, as nobody asked it; the next request loads it again");
            }
        }
    }

    /// Ends what is running and frees the model.
    pub async fn unload(&self) {
        let engine = self.current.write().expect("no panic while held").take();
        if let Some(engine) = engine {
            engine.stop();
        }
    }

    /// Frees the loaded model, once it has answered whom it answers.
    pub(super) async fn drain(&self) {
        if let Some(engine) = self.unused().await {
            free(engine).await;
        }
    }

    /// Takes the loaded model away, once it has answered whom it answers. Until then it stays the loaded one.
    pub(super) async fn unused(&self) -> Option<Arc<Engine>> {
        while self.current().is_some() {
            if let Some(engine) = self.take_unused() {
                return Some(engine);
            }
            tokio::time::sleep(DRAIN_EVERY).await;
        }
        None
    }

    /// Takes the loaded model away, unless it answers somebody.
    fn take_unused(&self) -> Option<Arc<Engine>> {
        let mut current = self.current.write().expect("no panic while held");
        // Nobody can get another while this lock is held.
        let unused = current.as_ref().is_some_and(|e| Arc::strong_count(e) == 1);
        if unused { current.take() } else { None }
    }
}

/// Frees gigabytes, which takes a while.
pub(super) async fn free(engine: Arc<Engine>) {
    let freed = tokio::task::spawn_blocking(|| drop(engine));
    freed.await.expect("freeing a model does not panic");
}
