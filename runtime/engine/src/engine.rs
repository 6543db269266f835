//! The engine's front: load a model, turn messages into a prompt, submit, listen.

mod load;
mod prompts;
mod request;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

pub use self::request::{Client, Generation, Phase, Priority, Prompt, Request, Stats};

use crate::chat::control::ControlTokens;
use crate::chat::{ChatTemplate, RunTemplate};
use crate::error::{PromptError, QueueFull, StoreError};
use crate::grammar::{Grammar, Grammars, ShapeError};
use crate::llama::{KvType, Model};
use crate::model::ModelInfo;
use crate::prefix_store::{PrefixFolder, PrefixStore};
use crate::queue::{Admission, Job};
use crate::rehearsal::Trial;
use crate::restraint::Restraint;
use crate::scheduler::Incoming;
use crate::shape::Shape;
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
    /// What was counted before, by an engine that is gone: this one counts on from there.
    pub counted: Stats,
}

/// Tries a file out; an error is a line for the user.
pub type Rehearse = fn(&Path, &Trial) -> Result<(), String>;

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
            counted: Stats::default(),
        }
    }
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
    /// Held by who tokenizes, and by who compiles a grammar, so that each takes one core at most.
    tokenizing: Mutex<()>,
    compiling: Mutex<()>,
    /// Made when the first request asks for one.
    grammars: OnceLock<Grammars>,
    inbox: Option<std::sync::mpsc::Sender<Incoming>>,
    waiting: Arc<Admission>,
    prefixes: Option<Arc<PrefixStore>>,
    restraint: Arc<Restraint>,
    stats: watch::Receiver<Stats>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// What is known of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What the engine is doing, and when that changes.
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
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

    /// What holds an answer to `shape`. Takes as long as compiling that; the first time, as a tree of the
    /// vocabulary too.
    ///
    /// # Errors
    /// [`ShapeError`]: what of it is wrong or not supported.
    pub fn grammar(&self, shape: &Shape) -> Result<Grammar, ShapeError> {
        // One core at most.
        let _turn = self
            .compiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let grammars = match self.grammars.get() {
            Some(grammars) => grammars,
            None => {
                let made = Grammars::new(self.model.clone())?;
                self.grammars.get_or_init(|| made)
            }
        };
        grammars.compile(shape)
    }

    /// What holds an answer that may call `tools`, and beside them has `shape`, and from where on.
    ///
    /// # Errors
    /// As [`Engine::grammar`], with the tool that it is about, where it is one alone.
    pub fn tool_grammar(
        &self,
        tools: &[Tool],
        choice: &ToolChoice,
        parallel: bool,
        shape: Option<&Shape>,
    ) -> Result<(Grammar, Hold), (Option<usize>, ShapeError)> {
        let all = tools::shape(tools, choice, parallel, shape);
        let (all, hold) = all.map_err(|reason| (None, ShapeError::new(reason)))?;
        if let Ok(grammar) = self.grammar(&all) {
            return Ok((grammar, hold));
        }
        // What was wrong was said of a grammar that nobody has written.
        for (i, arguments) in tools::arguments(tools).enumerate() {
            self.grammar(&arguments)
                .map_err(|reason| (Some(i), reason))?;
        }
        let reason = "they are too much together: offer fewer, or simpler ones";
        Err((None, ShapeError::new(reason)))
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
        self.send(Incoming::Job(Box::new(job)));
        Ok(Generation { events })
    }

    fn send(&self, incoming: Incoming) {
        let inbox = self.inbox.as_ref().expect("taken only on drop");
        let _ = inbox.send(incoming);
    }

    /// Whether it computes, tried out: past the queue and whatever holds it back. Waits for the batch that is being
    /// computed; the engine need not be held meanwhile.
    pub fn computes(&self) -> impl Future<Output = bool> + Send + use<> {
        let (question, answer) = oneshot::channel();
        self.send(Incoming::Test(question));
        async { answer.await.is_ok() }
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

    /// Does that, and frees what was computed for all of them, also while somebody still holds the engine: done when
    /// nothing of it is left.
    pub fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stop();
        // It wakes the thread that sleeps, which never answers it: who asked hears when all that the thread had is gone.
        let gone = self.computes();
        async {
            gone.await;
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        drop(self.inbox.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the scheduler was printed where it happened.
            let _ = thread.join();
        }
    }
}
