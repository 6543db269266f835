//! The models that can be served: one file, or a folder of them with one loaded at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use axum::Json;
use axum::extract::{self, State};
use axum::response::IntoResponse;
use cloister_engine::id_of as id;
use cloister_engine::{Engine, LoadError, ModelInfo, Options};
use serde_json::{Value, json};

use super::api_error::ApiError;

/// Where the models are, and which one is loaded.
pub struct Models {
    place: Place,
    options: Options,
    current: RwLock<Option<Arc<Engine>>>,
    /// Held while a model is loaded or exchanged.
    loading: tokio::sync::Mutex<()>,
}

enum Place {
    File(PathBuf),
    Folder(PathBuf),
}

/// The name that stands for whatever is loaded.
const DEFAULT: &str = "default";

/// How often a model that is to go is looked at again while it still answers.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

impl Models {
    /// Serves `file` alone.
    pub fn of_file(file: PathBuf, options: Options) -> anyhow::Result<Self> {
        Ok(Self::new(Place::File(file), options))
    }

    /// Serves the GGUF files in `folder`.
    pub fn of_folder(folder: PathBuf, options: Options) -> anyhow::Result<Self> {
        let models = Self::new(Place::Folder(folder), options);
        if models.files()?.is_empty() {
            let Place::Folder(folder) = &models.place else {
                unreachable!("just made")
            };
            anyhow::bail!("{} holds no GGUF file: put one there", folder.display());
        }
        Ok(models)
    }

    fn new(place: Place, options: Options) -> Self {
        Self {
            place,
            options,
            current: RwLock::new(None),
            loading: tokio::sync::Mutex::new(()),
        }
    }

    /// The files, by name.
    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        match &self.place {
            Place::File(file) => Ok(vec![file.clone()]),
            Place::Folder(folder) => {
                let entries = folder
                    .read_dir()
                    .with_context(|| format!("cannot read the folder {}", folder.display()))?;
                let mut files: Vec<PathBuf> = entries
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .filter(|path| {
                        path.extension()
                            .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
                    })
                    .collect();
                files.sort();
                Ok(files)
            }
        }
    }

    fn ids(&self) -> Vec<String> {
        self.files()
            .unwrap_or_default()
            .iter()
            .map(|file| id(file))
            .collect()
    }

    /// The loaded model.
    pub fn current(&self) -> Option<Arc<Engine>> {
        self.current.read().expect("no panic while held").clone()
    }

    /// Loads the first model.
    pub async fn load_first(&self) -> anyhow::Result<ModelInfo> {
        let _loading = self.loading.lock().await;
        let file = self
            .files()?
            .into_iter()
            .next()
            .context("there is no model")?;
        Ok(self.load(file).await?.info().clone())
    }

    /// Ends what is running and frees the model.
    pub async fn unload(&self) {
        let engine = self.current.write().expect("no panic while held").take();
        if let Some(engine) = engine {
            engine.stop();
        }
    }

    /// The engine that answers for `name`. Exchanges the loaded model when another one of the folder
    /// is asked for by its name: first it finishes what it has begun.
    pub async fn engine(self: &Arc<Self>, name: Option<&str>) -> Result<Arc<Engine>, ApiError> {
        let wanted = name.filter(|name| *name != DEFAULT);
        let fits = |engine: &Arc<Engine>| wanted.is_none_or(|wanted| engine.info().id == wanted);
        if let Some(engine) = self.current().filter(fits) {
            return Ok(engine);
        }
        let file = match wanted {
            None => None,
            Some(wanted) => {
                let files = self.files().unwrap_or_default();
                let file = files.into_iter().find(|file| id(file) == wanted);
                Some(file.ok_or_else(|| ApiError::no_model(wanted, &self.ids()))?)
            }
        };
        if self.current().is_none() {
            return Err(ApiError::unavailable("the model is being loaded"));
        }
        let Some(file) = file else {
            return Err(ApiError::unavailable("the model is being loaded"));
        };
        // A task of its own: who asked may go away, and the exchange must still come to its end.
        let models = Arc::clone(self);
        let exchange = tokio::spawn(async move { models.exchange(file).await });
        exchange.await.expect("an exchange does not panic")
    }

    async fn exchange(&self, file: PathBuf) -> Result<Arc<Engine>, ApiError> {
        let _loading = self.loading.lock().await;
        let loaded = |engine: &Arc<Engine>| engine.info().path == file;
        if let Some(engine) = self.current().filter(loaded) {
            return Ok(engine);
        }
        let old = self.current.write().expect("no panic while held").take();
        if let Some(mut old) = old {
            let back = old.info().path.clone();
            while let Err(still) = Arc::try_unwrap(old).map(drop) {
                old = still;
                tokio::time::sleep(DRAIN_EVERY).await;
            }
            return match self.load(file).await {
                Ok(engine) => Ok(engine),
                Err(error) => {
                    // Better the model that worked than none.
                    if let Err(error) = self.load(back).await {
                        tracing::error!("{error}");
                    }
                    Err((&error).into())
                }
            };
        }
        self.load(file).await.map_err(|error| (&error).into())
    }

    async fn load(&self, file: PathBuf) -> Result<Arc<Engine>, LoadError> {
        let options = self.options.clone();
        let engine = tokio::task::spawn_blocking(move || Engine::load(&file, &options))
            .await
            .expect("loading does not panic")?;
        let engine = Arc::new(engine);
        *self.current.write().expect("no panic while held") = Some(engine.clone());
        Ok(engine)
    }

    fn describe(&self, file: &Path) -> Value {
        let created = std::fs::metadata(file)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |age| age.as_secs());
        let engine = self.current().filter(|engine| engine.info().path == file);
        let meta = engine.as_ref().map(|engine| {
            let info = engine.info();
            json!({
                "n_params": info.n_params,
                "size": info.size,
                "n_ctx_train": info.n_ctx_train,
                "n_ctx": info.n_ctx,
                "architecture": info.architecture,
                "quantization": info.quantization,
            })
        });
        json!({
            "id": id(file),
            "object": "model",
            "created": created,
            "owned_by": "cloister",
            "loaded": engine.is_some(),
            "meta": meta,
        })
    }
}

/// `GET /v1/models`.
pub async fn list(State(models): State<Arc<Models>>) -> Json<Value> {
    let files = models.files().unwrap_or_default();
    let data: Vec<Value> = files.iter().map(|file| models.describe(file)).collect();
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{id}`.
pub async fn show(
    State(models): State<Arc<Models>>,
    extract::Path(name): extract::Path<String>,
) -> Result<Json<Value>, ApiError> {
    let files = models.files().unwrap_or_default();
    match files.iter().find(|file| id(file) == name) {
        Some(file) => Ok(Json(models.describe(file))),
        None => Err(ApiError::no_model(&name, &models.ids())),
    }
}

/// `GET /health`: 200 once a model is loaded.
pub async fn health(State(models): State<Arc<Models>>) -> impl IntoResponse {
    match models.current() {
        Some(_) => Ok(Json(json!({"status": "ok"}))),
        None => Err(ApiError::unavailable("the model is being loaded")),
    }
}
