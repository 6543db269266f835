//! The models that can be served: one file, or a folder of them with one loaded at a time.

mod exchange;
mod rest;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use anyhow::Context;
use cloister_engine::id_of as id;
use cloister_engine::{Card, Client, Embedder, Engine, Options, Restraint, Stats};
use tokio::sync::{Semaphore, watch};

use super::api_error::ApiError;
use super::cards::Cards;
use super::embedders::Embedders;
use super::idle::{Idle, Stay};
use super::templates::Template;

/// Where the models are, and which one is loaded.
pub struct Models {
    place: Place,
    options: Options,
    /// Most tokens of a thought, where a request does not say.
    reasoning_budget: Option<usize>,
    /// What is to be stored of each model that is loaded.
    templates: Vec<Template>,
    cards: Cards,
    idle: Idle,
    /// The model that embeds, which is loaded beside the one that answers.
    embedders: Arc<Embedders>,
    /// Whether the loaded model was freed because nobody asked it, or none of them answers.
    rests: AtomicBool,
    current: RwLock<Option<Arc<Engine>>>,
    /// What the model does that is loaded, or did that was loaded last.
    stats: RwLock<Option<watch::Receiver<Stats>>>,
    /// The file that was loaded last; `None` until the first one is.
    last: RwLock<Option<PathBuf>>,
    /// Held while a model is loaded or exchanged; who waits for it gets it in turn.
    loading: Arc<tokio::sync::Mutex<()>>,
    /// One for each request that exchanges models or waits to.
    exchanges: Arc<Semaphore>,
}

enum Place {
    File(PathBuf),
    Folder(PathBuf),
}

/// Whether the model that answers can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is loaded, or rests because nobody asked it, or none need be.
    Well,
    /// It is being loaded.
    Loading,
    /// Its thread has ended.
    Failed,
    /// The last load failed.
    Empty,
}

/// The name that stands for whatever is loaded.
const DEFAULT: &str = "default";

/// What Ollama's clients put after a name.
const LATEST: &str = ":latest";

/// Requests that may wait for an exchange of models.
const MAX_EXCHANGES: usize = 64;

impl Models {
    /// Serves `file` alone.
    pub fn of_file(file: PathBuf, options: Options) -> Self {
        Self::new(Place::File(file), options)
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
            embedders: Embedders::new(options.clone(), None),
            options,
            reasoning_budget: None,
            templates: Vec::new(),
            cards: Cards::default(),
            idle: Idle::new(None),
            rests: AtomicBool::new(false),
            current: RwLock::new(None),
            stats: RwLock::new(None),
            last: RwLock::new(None),
            loading: Arc::default(),
            exchanges: Arc::new(Semaphore::new(MAX_EXCHANGES)),
        }
    }

    /// What holds back all that are loaded.
    pub fn restraint(&self) -> &Arc<Restraint> {
        &self.options.restraint
    }

    /// Whether the privacy switch is on; none while nobody knows.
    pub fn private(&self) -> Option<bool> {
        self.restraint().private()
    }

    /// Refuses whatever comes while nobody is answered.
    fn check_open(&self) -> Result<(), ApiError> {
        match self.restraint().closed() {
            Some(why) => Err(ApiError::closed(why)),
            None => Ok(()),
        }
    }

    /// What has to be read: the file or the folder, and the draft model.
    pub fn reads(&self) -> Vec<&Path> {
        let (Place::File(place) | Place::Folder(place)) = &self.place;
        let draft_model = self.options.draft_model.as_deref();
        [Some(place.as_path()), draft_model]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Lets no thought have more than `tokens` tokens, unless its request says otherwise.
    pub fn with_reasoning_budget(mut self, tokens: Option<usize>) -> Self {
        self.reasoning_budget = tokens;
        self
    }

    /// Frees a model that nobody has asked for so long; see [`Models::rest_when_idle`].
    pub fn with_idle_unload(mut self, stay: Stay) -> Self {
        self.idle = Idle::new(stay);
        self.embedders = Embedders::new(self.options.clone(), stay);
        self
    }

    /// How long the loaded model stays when nobody asks it.
    pub fn idle(&self) -> &Idle {
        &self.idle
    }

    /// Has each model that is loaded read these and store what it makes of them.
    pub fn with_templates(mut self, templates: Vec<Template>) -> Self {
        self.templates = templates;
        self
    }

    /// Most tokens of a thought, where a request does not say.
    pub fn reasoning_budget(&self) -> Option<usize> {
        self.reasoning_budget
    }

    /// The files, by name.
    pub fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
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

    /// Whether one file was given, not a folder of them.
    pub fn is_one_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// Their names.
    pub fn ids(&self) -> Vec<String> {
        self.files()
            .unwrap_or_default()
            .iter()
            .map(|file| id(file))
            .collect()
    }

    /// The file that `name` stands for: with or without the tag that Ollama's clients put after it, or the
    /// one that was loaded last for [`DEFAULT`].
    fn file(&self, name: &str) -> Result<PathBuf, ApiError> {
        let files = self.files().unwrap_or_default();
        let name = name.strip_suffix(LATEST).unwrap_or(name);
        if name == DEFAULT
            && let Some(last) = self.last().or_else(|| files.first().cloned())
        {
            return Ok(last);
        }
        let file = files.into_iter().find(|file| id(file) == name);
        file.ok_or_else(|| ApiError::no_model(name, &self.ids()))
    }

    /// What each file says about itself; what is no sound model is left out.
    pub async fn cards(&self) -> Vec<Arc<Card>> {
        let mut cards = Vec::new();
        for file in self.files().unwrap_or_default() {
            match self.cards.of(&file).await {
                Ok(card) => cards.push(card),
                Err(error) => tracing::debug!("{error}"),
            }
        }
        cards
    }

    /// What the file that `name` stands for says about itself.
    pub async fn card(&self, name: &str) -> Result<Arc<Card>, ApiError> {
        let card = self.cards.of(&self.file(name)?).await;
        card.map_err(|error| ApiError::from(&error))
    }

    /// Whether `file` says that it embeds. What cannot be read does not.
    pub async fn embeds(&self, file: &Path) -> bool {
        let card = self.cards.of(file).await;
        card.is_ok_and(|card| card.pooling.embeds())
    }

    /// The place of the loaded model that embeds.
    pub fn embedders(&self) -> &Embedders {
        &self.embedders
    }

    /// The model that embeds for `name`, which `client` wants to stay so long afterwards: without a name the loaded
    /// one, or the first that there is.
    pub async fn embedder(
        &self,
        name: Option<&str>,
        client: &Client,
        stay: Option<Stay>,
    ) -> Result<Arc<Embedder>, ApiError> {
        self.check_open()?;
        let named = name.filter(|name| name.strip_suffix(LATEST).unwrap_or(name) != DEFAULT);
        let loaded = || self.embedders.current().map(|one| one.info().path.clone());
        let file = match (named, loaded()) {
            (Some(name), _) => self.file(name)?,
            (None, Some(file)) => file,
            (None, None) => self.file_that(true).await?.unwrap_or(self.file(DEFAULT)?),
        };
        if !self.embeds(&file).await {
            let message = format!(
                "{} answers and does not embed: models made for that say so in their file (pooling_type)",
                id(&file)
            );
            return Err(ApiError::unsupported("model", message));
        }
        let embedder = async {
            let embedder = self.embedders.get(&file).await;
            embedder.map_err(|error| ApiError::from(&error))
        };
        let embedder = self.unless_ended(embedder).await?;
        self.embedders.idle().asked(client, stay);
        Ok(embedder)
    }

    /// The first file that embeds, or that answers.
    async fn file_that(&self, embeds: bool) -> Result<Option<PathBuf>, ApiError> {
        let files = self.files();
        let files = files.map_err(|error| ApiError::unavailable(error.to_string()))?;
        for file in files {
            if self.embeds(&file).await == embeds {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The loaded model.
    pub fn current(&self) -> Option<Arc<Engine>> {
        self.current.read().expect("no panic while held").clone()
    }

    /// What the loaded model does, and what it and those before it have counted.
    pub fn stats(&self) -> Stats {
        let is_loaded = self.current().is_some();
        let stats = self.stats.read().expect("no panic while held");
        let stats = stats.as_ref().map(|stats| stats.borrow().clone());
        let stats = stats.unwrap_or_default();
        if is_loaded { stats } else { stats.at_rest() }
    }

    /// How the model that answers is.
    pub fn condition(&self) -> Condition {
        match self.current() {
            Some(engine) if engine.runs() => Condition::Well,
            None if self.rests.load(Ordering::Relaxed) => Condition::Well,
            _ if self.loading.try_lock().is_err() => Condition::Loading,
            Some(_) => Condition::Failed,
            None => Condition::Empty,
        }
    }

    /// Whether what is loaded still computes, tried out, whatever the privacy switch says; it may take as long as a batch.
    /// Where nothing is loaded, or a model is on its way, nothing need compute.
    pub async fn computes(&self) -> bool {
        // Holding the engine would keep its model loaded.
        let tried = self.current().map(|engine| engine.computes());
        match tried {
            Some(tried) if self.condition() == Condition::Well => {
                // One that was freed meanwhile has not answered either.
                tried.await || !self.current().is_some_and(|engine| engine.runs())
            }
            _ => true,
        }
    }

    /// The file that was loaded last.
    fn last(&self) -> Option<PathBuf> {
        self.last.read().expect("no panic while held").clone()
    }
}
