//! The engine's front: load a model, turn messages into a prompt, submit, listen.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use crate::card::Card;
use crate::chat::control::{self, ControlTokens};
use crate::chat::{ChatTemplate, Conversation, Message, RunTemplate};
use crate::draft_model::{DraftFile, DraftModel};
use crate::error::{LoadError, PromptError, QueueFull, StoreError};
use crate::event::Event;
use crate::grammar::{Grammar, Grammars, ShapeError};
use crate::llama::{Batch, Context, ContextParams, KvType, LLAMA_CPP, Model, Token, first_error};
use crate::memory;
use crate::model::{ModelInfo, id_of};
use crate::prefix_store::{Identity, PrefixFolder, PrefixStore};
use crate::queue::{Admission, Job};
use crate::reasoning::Stage;
use crate::restraint::Restraint;
use crate::sampling::Sampling;
use crate::scheduler::Scheduler;
use crate::shape::Shape;
use crate::speculation::MOST_DRAFTED;
use crate::tools::{self, Hold, Tool, ToolChoice};

/// How an engine is set up. The defaults are meant to be used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tokens that each slot holds; `None` takes the model's own, up to [`Options::DEFAULT_CTX`].
    pub n_ctx: Option<u32>,
    /// Requests worked on at the same time.
    pub n_slots: u32,
    /// Threads; `None` takes [`crate::usable_cores`].
    pub n_threads: Option<usize>,
    /// Element type of the KV cache.
    pub kv_type: KvType,
    /// Requests that may wait for a slot.
    pub queue: usize,
    /// Called with a file whose header is sound, before this process lets llama.cpp see it: to run
    /// [`crate::rehearse`] in another process.
    pub rehearse: Option<Rehearse>,
    /// Renders the model's chat template; `None` renders it in this process, whose memory a hostile one can use up.
    pub template: Option<RunTemplate>,
    /// Is told the share of the weights that is loaded, 0 to 1.
    pub progress: Option<watch::Sender<f32>>,
    /// Whether matrices are multiplied by Cloister's kernels, where it has one, or by ggml's alone. Holds for
    /// the process: the last engine to be loaded decides.
    pub kernels: bool,
    /// Where the prefixes of templates are kept; `None` keeps none.
    pub prefixes: Option<PrefixFolder>,
    /// What holds the engine back; may be shared with others.
    pub restraint: Arc<Restraint>,
    /// A small model with the same vocabulary, which says what may come next.
    pub draft_model: Option<PathBuf>,
}

/// Tries a file out; an error is a line for the user.
pub type Rehearse = fn(&Path, &Options) -> Result<(), String>;

impl Options {
    /// Tokens that a slot holds unless told otherwise, for models trained for more.
    pub const DEFAULT_CTX: u32 = 4096;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            n_ctx: None,
            n_slots: 4,
            n_threads: None,
            kv_type: KvType::F16,
            queue: 64,
            rehearse: None,
            template: None,
            progress: None,
            kernels: true,
            prefixes: None,
            restraint: Arc::default(),
            draft_model: None,
        }
    }
}

/// Who asks. What one client's prompt left in a slot is never used for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub String);

/// Who waits for an answer, first who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A person.
    #[default]
    Interactive,
    /// A program that can wait while a person does.
    Automation,
}

/// Tokens ready for the model.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The rendered template, tokenized.
    pub tokens: Vec<Token>,
    /// Where the answer begins: in a thought, after one, or where both may follow.
    pub stage: Stage,
    /// How many of the tokens come before anything that a user says, where a template might be stored.
    pub template: usize,
}

/// A request that is ready to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// From [`Engine::prompt`].
    pub prompt: Prompt,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens to generate; from [`Engine::max_tokens`].
    pub max_tokens: usize,
    /// Most tokens of these to think: then the thought is closed, and the answer begins.
    pub thinking_budget: Option<usize>,
    /// Text that ends the answer.
    pub stop: Vec<String>,
    /// What the answer must look like, from where on; from [`Engine::grammar`] or [`Engine::tool_grammar`].
    pub grammar: Option<(Grammar, Hold)>,
    /// Names of the tools whose calls are read out of the answer.
    pub calls: Vec<String>,
    /// Who asks.
    pub client: Client,
    /// Whether somebody waits for it.
    pub priority: Priority,
    /// When the answer is of no use any more: then it ends, whether it has begun or not.
    pub deadline: Option<Instant>,
    /// Most tokens that are computed ahead of what may come; `None` leaves that to the engine.
    pub most_drafted: Option<usize>,
    /// Only reads the prompt, a template of [`Engine::template`], and stores what the model made of it.
    pub stores: bool,
}

impl Request {
    /// A request with the default settings, and neither stop sequences nor a budget for its thought.
    pub fn new(prompt: Prompt, max_tokens: usize, client: Client) -> Self {
        Self {
            prompt,
            sampling: Sampling::default(),
            max_tokens,
            thinking_budget: None,
            stop: Vec::new(),
            grammar: None,
            calls: Vec::new(),
            client,
            priority: Priority::default(),
            deadline: None,
            most_drafted: None,
            stores: false,
        }
    }
}

/// A running request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::UnboundedReceiver<Event>,
}

impl Generation {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// How far the answer is that is furthest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// A prompt is read.
    Reading,
    /// A thought is written.
    Thinking,
    /// A text is written.
    Answering,
}

/// What the engine is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// How far it is.
    pub phase: Phase,
    /// Slots that work.
    pub busy: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Speed of the last prefill, in tokens per second.
    pub prefill_per_second: f64,
    /// Speed of decoding lately, all slots together, in tokens per second.
    pub decode_per_second: f64,
    /// Prompt tokens computed since the start.
    pub prompt_tokens: u64,
    /// Batches computed since the start.
    pub batches: u64,
    /// Tokens generated since the start.
    pub generated_tokens: u64,
    /// Requests answered since the start.
    pub finished: u64,
    /// Requests cancelled since the start.
    pub cancelled: u64,
}

/// One loaded model with its slots. Dropping it ends what is running.
pub struct Engine {
    model: Arc<Model>,
    template: Option<ChatTemplate>,
    info: ModelInfo,
    /// Of [`Model::longest_token`], at least 1.
    longest_token: usize,
    /// What no message may write.
    control: ControlTokens,
    tokenizing: Mutex<()>,
    /// Made when the first request asks for one.
    grammars: OnceLock<Grammars>,
    jobs: Option<std::sync::mpsc::Sender<Job>>,
    waiting: Arc<Admission>,
    prefixes: Option<Arc<PrefixStore>>,
    restraint: Arc<Restraint>,
    stats: watch::Receiver<Stats>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Checks and loads the GGUF file at `path` and starts its scheduler. Takes as long as reading
    /// the file's header and mapping its weights.
    ///
    /// # Errors
    /// [`LoadError`]: no sound GGUF, an architecture llama.cpp does not know, no memory.
    pub fn load(path: &Path, options: &Options) -> Result<Self, LoadError> {
        let file = cloister_gguf::Gguf::open(path)?;
        let draft_file = options.draft_model.as_deref();
        let draft_file = draft_file.map(|path| DraftFile::open(path, &file));
        let draft_file = draft_file.transpose()?;
        let need = check_memory(&file, draft_file.as_ref(), options)?;
        if let Some(rehearse) = options.rehearse {
            rehearse(path, options).map_err(LoadError::Rehearsal)?;
        }
        cloister_kernels::enable(options.kernels);
        let repack = crate::llama::repacking_pays(&file);
        let progress = |share| {
            if let Some(progress) = &options.progress {
                progress.send_replace(share);
            }
        };
        let model = Model::load_with_progress(path, repack, &progress);
        let model = Arc::new(model.ok_or_else(|| LoadError::unsupported(path))?);
        let text = |token: Option<Token>| token.map_or_else(String::new, |t| model.token_text(t));
        let template = match model.chat_template() {
            None => None,
            Some(source) => {
                let (bos, eos) = (text(model.bos()), text(model.eos()));
                let template = ChatTemplate::new(source, bos, eos, options.template);
                Some(template.map_err(|reason| LoadError::Template {
                    path: path.to_owned(),
                    reason,
                })?)
            }
        };
        let trained = model.n_ctx_train().max(1);
        let n_ctx = options.n_ctx.unwrap_or(trained.min(Options::DEFAULT_CTX));
        if n_ctx > trained {
            tracing::warn!(
                "{}: slots of {n_ctx} tokens, and the model was trained for {trained}: beyond these its answers get worse",
                path.display()
            );
        }
        let params = ContextParams {
            n_ctx_seq: n_ctx,
            n_seq: options.n_slots,
            n_batch: n_ctx.min(512).max(options.n_slots),
            n_threads: options.n_threads.unwrap_or_else(crate::usable_cores),
            kv_type: options.kv_type,
        };
        let draft_model = draft_file.map(|file| DraftModel::load(&file, params, options));
        let draft_model = draft_model.transpose()?;
        let mut context = Context::for_slots(model.clone(), params, n_outputs(options))
            .ok_or_else(|| LoadError::Context {
                path: path.to_owned(),
                slots: options.n_slots,
                n_ctx,
                reason: first_error().unwrap_or_else(|| "it gave no reason".to_owned()),
            })?;
        warm_up(&model, &mut context);
        let info = ModelInfo {
            path: path.to_owned(),
            id: id_of(path),
            architecture: model.metadata("general.architecture").unwrap_or_default(),
            quantization: model.quantization(),
            n_vocab: model.n_vocab().max(0) as usize,
            n_params: model.n_params(),
            size: model.size(),
            n_ctx_train: trained,
            n_ctx: context.n_ctx_seq(),
            n_slots: options.n_slots,
            memory: need.unwrap_or_else(|| model.size()),
            thinks: template.as_ref().is_some_and(|template| template.thinks),
        };

        let prefixes = match &options.prefixes {
            None => None,
            Some(folder) => {
                let identity = identity(path, options, context.n_ctx_seq())?;
                Some(Arc::new(PrefixStore::new(folder.clone(), identity)))
            }
        };
        let (jobs, inbox) = std::sync::mpsc::channel();
        let (stats_sender, stats) = watch::channel(Stats::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(Admission::new(options.queue));
        let scheduler = Scheduler::new(
            context,
            options,
            inbox,
            waiting.clone(),
            prefixes.clone(),
            stats_sender,
            stopping.clone(),
        );
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || scheduler.with_draft_model(draft_model).run())
            .expect("the system has room for one more thread");
        Ok(Self {
            longest_token: model.longest_token().max(1),
            control: ControlTokens::new(model.control_tokens()),
            tokenizing: Mutex::new(()),
            grammars: OnceLock::new(),
            model,
            template,
            info,
            jobs: Some(jobs),
            waiting,
            prefixes,
            restraint: options.restraint.clone(),
            stats,
            stopping,
            thread: Some(thread),
        })
    }

    /// What is known of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What the engine is doing, and when that changes.
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// Renders and tokenizes a conversation with the model's own template.
    ///
    /// # Errors
    /// When the model has no template, its template refuses the messages or knows no thoughts where one is
    /// asked for, or there are more bytes than the context can hold whatever they say.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, PromptError> {
        let template = self.template.as_ref().ok_or(PromptError::NoTemplate)?;
        if conversation.think == Some(true) && !template.thinks {
            return Err(PromptError::NoThought);
        }
        // The cores belong to the slots: however many ask, one core at most turns text into tokens.
        let _turn = self
            .tokenizing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let render = |conversation: &Conversation| {
            let text = template.render(&self.control.cut(conversation));
            text.map_err(PromptError::Template)
        };
        let text = render(conversation)?;
        let add_special = self.model.adds_bos() && !template.wrote_bos(&text);
        let mut prompt = self.tokenize(&text, add_special)?;
        if self.prefixes.is_some()
            && let Some(said) = said_by_others(conversation)
        {
            let same = |other: &String| {
                let pairs = text.bytes().zip(other.bytes());
                pairs.take_while(|(a, b)| a == b).count()
            };
            let [one, other] = said;
            let bytes = same(&render(&one)?).min(same(&render(&other)?));
            let before = &text[..text.floor_char_boundary(bytes)];
            let before = self.tokens(before, add_special);
            prompt.template = shared(&before, &prompt.tokens);
        }
        Ok(prompt)
    }

    /// The beginning that all prompts have whose conversation begins with the system messages of this one and
    /// has its tools, whatever a user says after them. Its other messages are not looked at.
    ///
    /// # Errors
    /// As [`Engine::prompt`], and when there is nothing that could be stored, or nowhere to store it.
    pub fn template(&self, conversation: &Conversation) -> Result<Prompt, PromptError> {
        if self.prefixes.is_none() {
            return Err(PromptError::NoStore);
        }
        let [one, other] = said_by_others(conversation).ok_or(PromptError::EmptyTemplate)?;
        let (mut prompt, other) = (self.prompt(&one)?, self.prompt(&other)?);
        let same = shared(&prompt.tokens, &other.tokens);
        prompt.tokens.truncate(same);
        if prompt.tokens.is_empty() {
            return Err(PromptError::EmptyTemplate);
        }
        Ok(prompt)
    }

    /// Reads `template` and stores what the model makes of it: done when it is on the disk. None where it
    /// is there already.
    ///
    /// # Errors
    /// [`StoreError`]: it is too long for the context, or nothing can be stored now.
    pub fn store(
        &self,
        template: Prompt,
        client: Client,
        priority: Priority,
    ) -> Result<Option<Generation>, StoreError> {
        let prefixes = self.prefixes.as_ref().ok_or(PromptError::NoStore)?;
        if prefixes.has(&template.tokens) {
            return Ok(None);
        }
        self.max_tokens(&template, Some(1))?;
        let request = Request {
            stores: true,
            priority,
            ..Request::new(template, 1, client)
        };
        Ok(Some(self.submit(request)?))
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Prompt, PromptError> {
        let (bytes, n_ctx) = (text.len(), self.info.n_ctx as usize);
        let least = bytes.div_ceil(self.longest_token);
        if least > n_ctx {
            return Err(PromptError::TooManyBytes {
                bytes,
                least,
                n_ctx,
            });
        }
        let tokens = self.tokens(text, add_special);
        if tokens.is_empty() {
            let nothing = "it makes nothing of them, and a prompt needs a token";
            return Err(PromptError::Template(nothing.to_owned()));
        }
        Ok(Prompt {
            tokens,
            stage: Stage::after(text),
            template: 0,
        })
    }

    /// The tokens of a text that may have seams.
    fn tokens(&self, text: &str, add_special: bool) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (i, piece) in control::pieces(text).enumerate() {
            tokens.extend(self.model.tokenize(piece, add_special && i == 0));
        }
        tokens
    }

    /// Tokenizes a prompt that has its template's text already, special tokens written out.
    ///
    /// # Errors
    /// When there are more bytes than the context can hold, or no token.
    pub fn raw_prompt(&self, text: &str) -> Result<Prompt, PromptError> {
        let _turn = self
            .tokenizing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let add_special = self.model.adds_bos();
        self.tokenize(text, add_special)
    }

    /// What holds an answer to `shape`. Takes as long as compiling that; the first time, as a tree of the
    /// vocabulary too.
    ///
    /// # Errors
    /// [`ShapeError`]: what of it is wrong or not supported.
    pub fn grammar(&self, shape: &Shape) -> Result<Grammar, ShapeError> {
        // One core at most, as for tokenizing.
        let _turn = self
            .tokenizing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let make = || Grammars::new(self.model.clone());
        self.grammars.get_or_init(make).compile(shape)
    }

    /// What holds an answer that may call `tools`, and beside them has `shape`, and from where on.
    ///
    /// # Errors
    /// As [`Engine::grammar`].
    pub fn tool_grammar(
        &self,
        tools: &[Tool],
        choice: &ToolChoice,
        parallel: bool,
        shape: Option<&Shape>,
    ) -> Result<(Grammar, Hold), ShapeError> {
        let (shape, hold) =
            tools::shape(tools, choice, parallel, shape).map_err(ShapeError::new)?;
        Ok((self.grammar(&shape)?, hold))
    }

    /// How many tokens an answer to `prompt` may have: `wanted`, or all that the context has room
    /// for.
    ///
    /// # Errors
    /// [`PromptError::TooLong`] when the two do not fit the context together.
    pub fn max_tokens(&self, prompt: &Prompt, wanted: Option<usize>) -> Result<usize, PromptError> {
        let n_ctx = self.info.n_ctx as usize;
        let prompt = prompt.tokens.len();
        let max_tokens = wanted.unwrap_or(n_ctx.saturating_sub(prompt)).max(1);
        let needed = prompt.saturating_add(max_tokens);
        if needed > n_ctx {
            return Err(PromptError::TooLong {
                prompt,
                max_tokens,
                needed,
                n_ctx,
            });
        }
        Ok(max_tokens)
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// [`QueueFull`] when as many wait as may, or as many of this client.
    pub fn submit(&self, request: Request) -> Result<Generation, QueueFull> {
        self.waiting.enter(&request.client)?;
        let (sender, events) = mpsc::unbounded_channel();
        let job = Job::new(request, sender, self.restraint.submit());
        // Should the scheduler be gone, the job's sender is dropped with it and the receiver ends.
        let _ = self.jobs.as_ref().expect("taken only on drop").send(job);
        Ok(Generation { events })
    }

    /// Whether it still answers: not once it has been stopped, or its thread has failed.
    pub fn runs(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_some_and(|thread| !thread.is_finished())
    }

    /// Ends every request, running or waiting, with [`crate::GenerateError::Stopped`].
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

/// The conversation with two other users, who say different things after its system messages. None without any
/// of these, and without tools.
fn said_by_others(conversation: &Conversation) -> Option<[Conversation; 2]> {
    let messages = conversation.messages.iter();
    let system = messages.take_while(|message| message.role == "system");
    let system: Vec<Message> = system.cloned().collect();
    if system.is_empty() && conversation.tools.is_empty() {
        return None;
    }
    Some(["a", "0"].map(|said| Conversation {
        messages: [&system[..], &[Message::new("user", said)]].concat(),
        think: conversation.think,
        tools: conversation.tools.clone(),
    }))
}

/// How many tokens two prompts begin with together.
fn shared(one: &[Token], other: &[Token]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(a, b)| a == b).count()
}

/// What stored prefixes of this model depend on. llama.cpp's state knows its own layout, but not the model.
fn identity(path: &Path, options: &Options, n_ctx: u32) -> Result<Identity, LoadError> {
    let card = Card::read(path)?;
    Ok(Identity::of(&[
        env!("CARGO_PKG_VERSION"),
        LLAMA_CPP,
        &card.digest,
        // The digest samples the weights; a file that was changed between the samples has another time.
        &format!("{:?}", card.modified),
        &format!("{:?} {n_ctx} {}", options.kv_type, options.n_slots),
    ]))
}

/// Most tokens of a batch whose logits are looked at: the last one of each slot, or a draft.
fn n_outputs(options: &Options) -> u32 {
    options.n_slots.max(MOST_DRAFTED as u32 + 1)
}

/// Fails when the model with its context does not fit this machine. Gives how many bytes it needs, where that
/// is known.
fn check_memory(
    file: &cloister_gguf::Gguf,
    draft: Option<&DraftFile>,
    options: &Options,
) -> Result<Option<u64>, LoadError> {
    let architecture = file
        .metadata
        .str("general.architecture")
        .unwrap_or_default();
    let trained = file.metadata.u64(&format!("{architecture}.context_length"));
    let trained = trained.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let n_ctx = options
        .n_ctx
        .unwrap_or_else(|| trained.clamp(1, Options::DEFAULT_CTX));
    let n_batch = n_ctx.min(512).max(options.n_slots);
    let context = memory::shape(
        n_ctx,
        options.n_slots,
        n_batch,
        n_outputs(options),
        options.kv_type,
    );
    let mut models = vec![(file, context)];
    if let Some(draft) = draft {
        models.push((&draft.file, DraftFile::shape(n_ctx, options.kv_type)));
    }
    memory::check(&models).map_err(|reason| LoadError::Memory {
        path: file.path().to_owned(),
        reason,
    })
}

/// Computes one token and forgets it, so that the first request does not wait for weights to come from
/// the disk and threads to start.
fn warm_up(model: &Model, context: &mut Context) {
    let mut batch = Batch::new(1);
    batch.push(model.bos().unwrap_or(0), 0, 0, true);
    if let Err(error) = context.decode(&batch) {
        tracing::warn!("the first token could not be computed: {error:?}");
    }
    context.clear();
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the scheduler was printed where it happened.
            let _ = thread.join();
        }
    }
}
