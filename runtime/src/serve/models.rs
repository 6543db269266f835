//! The models that can be served: one file, or a folder of them with one loaded at a time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context;
use cloister_engine::id_of as id;
use cloister_engine::{Card, Client, Embedder, Engine, LoadError, Options, Restraint, Stats};
use tokio::sync::{Semaphore, watch};

use super::api_error::ApiError;
use super::cards::Cards;
use super::embedders::Embedders;
use super::idle::{self, Idle, Stay};
use super::loading;
use super::templates::{self, Template};

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
    loading: tokio::sync::Mutex<()>,
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

/// How often a model that is to go is looked at again while it still answers.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

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
            loading: tokio::sync::Mutex::new(()),
            exchanges: Arc::new(Semaphore::new(MAX_EXCHANGES)),
        }
    }

    /// What holds back all that are loaded.
    pub fn restraint(&self) -> &Arc<Restraint> {
        &self.options.restraint
    }

    /// Refuses whatever comes while nobody is answered.
    fn check_open(&self) -> Result<(), ApiError> {
        match self.options.restraint.closed() {
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
        let embedder = self.embedders.get(&file).await;
        let embedder = embedder.map_err(|error| ApiError::from(&error))?;
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

    /// Loads the first model that answers; where none does, the first that embeds. Gives its name and what it can do.
    pub async fn load_first(&self) -> anyhow::Result<(String, String)> {
        let _loading = self.loading.lock().await;
        let mut files = self.files()?;
        anyhow::ensure!(!files.is_empty(), "there is no model");
        let first = files.swap_remove(0);
        let answers = self.file_that(false).await.ok().flatten();
        if let (None, true) = (&answers, self.embeds(&first).await) {
            self.rests.store(true, Ordering::Relaxed);
            let info = self.embedders.get(&first).await?.info().clone();
            return Ok((
                info.id,
                format!("it embeds texts of up to {} tokens", info.n_ctx),
            ));
        }
        let engine = self.load(answers.unwrap_or(first)).await?;
        let info = engine.info();
        Ok((
            info.id.clone(),
            format!("{} slots of {} tokens", info.n_slots, info.n_ctx),
        ))
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

    /// Ends what is running and frees the model.
    pub async fn unload(&self) {
        let engine = self.current.write().expect("no panic while held").take();
        if let Some(engine) = engine {
            engine.stop();
        }
    }

    /// As [`Models::engine`], for `client`, who wants the model to stay so long afterwards.
    pub async fn engine_for(
        self: &Arc<Self>,
        name: Option<&str>,
        client: &Client,
        stay: Option<Stay>,
    ) -> Result<Arc<Engine>, ApiError> {
        let engine = self.engine(name).await?;
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
        // A task of its own: who asked may go away, and the exchange must still come to its end.
        let models = Arc::clone(self);
        let exchange = tokio::spawn(async move {
            let _turn = turn;
            models.exchange(file).await
        });
        exchange.await.expect("an exchange does not panic")
    }

    /// Loads `file`, or without one whatever was loaded last, unless it is loaded.
    async fn exchange(&self, file: Option<PathBuf>) -> Result<Arc<Engine>, ApiError> {
        let _loading = self.loading.lock().await;
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
        self.drain().await;
        match (self.load(file.clone()).await, back) {
            (Ok(engine), _) => Ok(engine),
            (Err(error), back) => {
                // Better the model that worked than none.
                if let Some(back) = back.filter(|back| *back != file)
                    && let Err(error) = self.load(back).await
                {
                    tracing::error!("{error}");
                }
                Err((&error).into())
            }
        }
    }

    /// Waits until the loaded model has answered whom it answers, and frees it. Until then it stays the
    /// loaded one.
    async fn drain(&self) {
        while self.current().is_some() {
            if let Some(engine) = self.take_unused() {
                return free(engine).await;
            }
            tokio::time::sleep(DRAIN_EVERY).await;
        }
    }

    /// Takes the loaded model away, unless it answers somebody.
    fn take_unused(&self) -> Option<Arc<Engine>> {
        let mut current = self.current.write().expect("no panic while held");
        // Nobody can get another while this lock is held.
        let unused = current.as_ref().is_some_and(|e| Arc::strong_count(e) == 1);
        if unused { current.take() } else { None }
    }

    /// The file that was loaded last.
    fn last(&self) -> Option<PathBuf> {
        self.last.read().expect("no panic while held").clone()
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

/// Frees gigabytes, which takes a while.
async fn free(engine: Arc<Engine>) {
    let freed = tokio::task::spawn_blocking(|| drop(engine));
    freed.await.expect("freeing a model does not panic");
}
