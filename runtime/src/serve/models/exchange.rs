//! One model goes and another one comes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use cloister_engine::id_of as id;
use cloister_engine::{Client, Engine, LoadError, Options};
use tokio::sync::watch;

use super::rest::free;
use super::{DEFAULT, LATEST, MAX_EXCHANGES, Models};
use crate::serve::api_error::ApiError;
use crate::serve::idle::Stay;
use crate::serve::{loading, templates};

impl Models {
    /// As [`Models::engine`], for `client`, who wants the model to stay so long afterwards.
    pub async fn engine_for(
        self: &Arc<Self>,
        name: Option<&str>,
        client: &Client,
        stay: Option<Stay>,
    ) -> Result<Arc<Engine>, ApiError> {
        let engine = self.unless_ended(self.engine(name)).await?;
        self.idle.asked(client, stay);
        Ok(engine)
    }

    /// The engine that answers for `name`. Exchanges the loaded model when another one of the folder
    /// is asked for by its name: first it finishes what it has begun. Who asks meanwhile waits in turn.
    pub async fn engine(self: &Arc<Self>, name: Option<&str>) -> Result<Arc<Engine>, ApiError> {
        self.check_open()?;
        let name = name.map(|name| name.strip_suffix(LATEST).unwrap_or(name));
        let wanted = name.filter(|name| *name != DEFAULT);
        let fits = |engine: &Arc<Engine>| {
            engine.runs() && wanted.is_none_or(|wanted| engine.info().id == wanted)
        };
        let idle = self.exchanges.available_permits() == MAX_EXCHANGES;
        if let Some(engine) = self.current().filter(fits).filter(|_| idle) {
            return Ok(engine);
        }
        let mut file = wanted.map(|wanted| self.file(wanted)).transpose()?;
        if self.last().is_none() {
            if !self.rests.load(Ordering::Relaxed) {
                return Err(ApiError::unavailable("the model is being loaded"));
            }
            // None of them answered when the box was started.
            file = file
                .or(self.file_that(false).await?)
                .or(Some(self.file(DEFAULT)?));
        }
        if let Some(file) = &file
            && self.embeds(file).await
        {
            let message = format!(
                "{} embeds and does not answer: ask another model, or /v1/embeddings",
                id(file)
            );
            return Err(ApiError::unsupported("model", message));
        }
        let Ok(turn) = self.exchanges.clone().try_acquire_owned() else {
            return Err(ApiError::unavailable(
                "too many requests wait for another model to be loaded",
            ));
        };
        let loading = self.loading.clone().lock_owned().await;
        // It may have been closed while this waited.
        self.check_open()?;
        let back = self.last();
        let Some(file) = file.or_else(|| back.clone()) else {
            return Err(ApiError::unavailable("the model is being loaded"));
        };
        let loaded = |engine: &Arc<Engine>| engine.runs() && engine.info().path == file;
        if let Some(engine) = self.current().filter(loaded) {
            return Ok(engine);
        }
        if let Some(loaded) = self.current() {
            // What cannot come drives nobody out.
            let (path, options) = (file.clone(), self.options.clone());
            let leaving = loaded.info().memory;
            drop(loaded);
            let check = move || Engine::check(&path, &options, leaving);
            let checked = tokio::task::spawn_blocking(check).await;
            let checked = checked.expect("a check does not panic");
            checked.map_err(|error| ApiError::from(&error))?;
        }
        let leaving = self.unused().await;
        // Who asked may go away until here, and nothing has happened. What has begun comes to its end, in a task of its own.
        let models = Arc::clone(self);
        let exchange = tokio::spawn(async move {
            let _held = (turn, loading);
            if let Some(leaving) = leaving {
                free(leaving).await;
            }
            models.load_or_back(file, back).await
        });
        exchange.await.expect("an exchange does not panic")
    }

    /// Loads `file`; where that fails, the one that was loaded before.
    async fn load_or_back(
        &self,
        file: PathBuf,
        back: Option<PathBuf>,
    ) -> Result<Arc<Engine>, ApiError> {
        let failed = match self.load(file.clone()).await {
            Ok(engine) => return Ok(engine),
            Err(failed) => failed,
        };
        // Better the model that worked than none.
        if let Some(back) = back.filter(|back| *back != file)
            && let Err(error) = self.load(back).await
        {
            tracing::error!("{error}");
        }
        Err((&failed).into())
    }

    /// Loads one file that answers after the other, and has each stay for as long as `work` takes.
    pub async fn with_each<F>(&self, mut work: impl FnMut(Arc<Engine>) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        for file in self.files()? {
            if self.embeds(&file).await {
                continue;
            }
            let _loading = self.loading.lock().await;
            self.drain().await;
            work(self.load(file).await?).await?;
        }
        Ok(())
    }

    /// Loads the first model that answers and can be loaded; where none answers, the first that embeds. Gives its name and what
    /// it can do.
    pub async fn load_first(&self) -> anyhow::Result<(String, String)> {
        let _loading = self.loading.lock().await;
        let files = self.files()?;
        let first = files.first().context("there is no model")?;
        let mut failed = Vec::new();
        for file in &files {
            if self.embeds(file).await {
                continue;
            }
            match self.load(file.clone()).await {
                Ok(engine) => {
                    for error in failed {
                        tracing::error!("{error}");
                    }
                    let info = engine.info();
                    let can = format!("{} slots of {} tokens", info.n_slots, info.n_ctx);
                    return Ok((info.id.clone(), can));
                }
                Err(error) => failed.push(error),
            }
        }
        // The last one is told by who called.
        if let Some(last) = failed.pop() {
            for error in failed {
                tracing::error!("{error}");
            }
            return Err(last.into());
        }
        self.rests.store(true, Ordering::Relaxed);
        let info = self.embedders.get(first).await?.info().clone();
        let can = format!("it embeds texts of up to {} tokens", info.n_ctx);
        Ok((info.id, can))
    }

    async fn load(&self, file: PathBuf) -> Result<Arc<Engine>, LoadError> {
        self.rests.store(false, Ordering::Relaxed);
        let (progress, share) = watch::channel(0.0);
        let options = Options {
            progress: Some(progress),
            counted: self.stats(),
            ..self.options.clone()
        };
        let (path, name) = (file.clone(), id(&file));
        let mut loading = tokio::task::spawn_blocking(move || Engine::load(&path, &options));
        let loaded = tokio::select! {
            loaded = &mut loading => loaded,
            never = loading::show(&name, share) => never,
        };
        let engine = Arc::new(loaded.expect("loading does not panic")?);
        *self.stats.write().expect("no panic while held") = Some(engine.stats());
        *self.current.write().expect("no panic while held") = Some(engine.clone());
        *self.last.write().expect("no panic while held") = Some(file);
        self.idle.loaded();
        templates::store_all(&engine, self.templates.clone());
        Ok(engine)
    }
}
