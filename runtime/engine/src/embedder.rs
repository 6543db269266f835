//! A model that makes vectors of texts.
//!
//! In: texts. Out: one vector each, as the model makes them, not brought to length 1. They are computed by one thread,
//! [`worker`]. Dropping an [`Embedding`] cancels it. Never stores or logs a text.

mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use cloister_gguf::Gguf;
use tokio::sync::mpsc;

use crate::engine::{Client, Options};
use crate::error::{EmbedError, GenerateError, LoadError, QueueFull};
use crate::llama::{Context, ContextParams, Model, Token, first_error};
use crate::memory;
use crate::model::id_of;
use crate::pooling::Pooling;
use crate::queue::Admission;
use crate::rehearsal::Trial;
use crate::restraint::Restraint;
use worker::{Job, Worker};

/// Most tokens of a text unless told otherwise, for models trained for more. Those of a text are computed together,
/// where the model looks at them in both directions, and its attention takes the square of them.
const DEFAULT_CTX: u32 = 2048;

/// Tokens that are computed together where a text can be read in slices.
const SLICE: usize = 512;

/// What is known of a loaded model that embeds.
#[derive(Clone, Debug)]
pub struct EmbedderInfo {
    /// The file.
    pub path: PathBuf,
    /// The name that requests use.
    pub id: String,
    /// Numbers of a vector.
    pub n_embd: usize,
    /// Tokens that a text may have.
    pub n_ctx: usize,
    /// Bytes that it needs.
    pub memory: u64,
}

/// A text that is ready to be embedded; from [`Embedder::text`].
#[derive(Clone, Debug)]
pub struct Text(Vec<Token>);

impl Text {
    /// Number of its tokens.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

type Outcome = Result<Vec<Vec<f32>>, GenerateError>;

/// A running request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Embedding(mpsc::UnboundedReceiver<Outcome>);

impl Embedding {
    /// A vector for each text, in their order.
    ///
    /// # Errors
    /// [`GenerateError`]: the model cannot compute one, or is being unloaded.
    pub async fn vectors(mut self) -> Outcome {
        self.0.recv().await.unwrap_or(Err(GenerateError::Stopped))
    }
}

/// One loaded model. Dropping it ends what is running.
pub struct Embedder {
    model: Arc<Model>,
    info: EmbedderInfo,
    jobs: Option<Sender<Job>>,
    waiting: Arc<Admission>,
    restraint: Arc<Restraint>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Embedder {
    /// Checks and loads the GGUF file at `path`, whose header says that it embeds. Of the options the number of
    /// slots means nothing: texts are computed one by one.
    ///
    /// # Errors
    /// [`LoadError`]: no sound GGUF, an architecture llama.cpp does not know, no memory.
    pub fn load(path: &Path, options: &Options) -> Result<Self, LoadError> {
        let file = Gguf::open(path)?;
        let shape = Shape::of(&file, options);
        let need = memory::check(&[(&file, shape.memory(options.kv_type))], 0);
        let need = need.map_err(|reason| LoadError::Memory {
            path: path.to_owned(),
            reason,
        })?;
        let params = ContextParams {
            n_ctx_seq: shape.n_ctx,
            n_seq: 1,
            n_batch: shape.n_batch,
            n_threads: options.n_threads.unwrap_or_else(crate::usable_cores),
            kv_type: options.kv_type,
        };
        if let Some(rehearse) = options.rehearse {
            rehearse(path, &Trial::of(params, None)).map_err(LoadError::Rehearsal)?;
        }
        cloister_kernels::enable(options.kernels);
        let model = Model::load(path, crate::llama::repacking_pays(&file));
        let model = Arc::new(model.ok_or_else(|| LoadError::unsupported(path))?);
        let context = Context::for_embeddings(model.clone(), params);
        let context = context.ok_or_else(|| LoadError::Context {
            path: path.to_owned(),
            slots: 1,
            n_ctx: shape.n_ctx,
            reason: first_error().unwrap_or_else(|| "it gave no reason".to_owned()),
        })?;
        let info = EmbedderInfo {
            path: path.to_owned(),
            id: id_of(path),
            n_embd: model.n_embd(),
            n_ctx: shape.n_ctx as usize,
            memory: need,
        };
        let (jobs, inbox) = std::sync::mpsc::channel();
        let waiting = Arc::new(Admission::new(options.queue));
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker::new(
            context,
            &shape,
            inbox,
            waiting.clone(),
            options.restraint.clone(),
            stopping.clone(),
        );
        let thread = std::thread::Builder::new()
            .name("embedder".to_owned())
            .spawn(move || worker.run())
            .expect("the system has room for one more thread");
        Ok(Self {
            model,
            info,
            jobs: Some(jobs),
            waiting,
            restraint: options.restraint.clone(),
            stopping,
            thread: Some(thread),
        })
    }

    /// What is known of the model.
    pub fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// Whether it still works: not once its thread has failed.
    pub fn runs(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_some_and(|thread| !thread.is_finished())
    }

    /// Tokenizes a text, with what the model wants before and behind it. Control tokens that it writes out are text.
    /// With `truncate` its end is cut off where it is too long.
    ///
    /// # Errors
    /// [`EmbedError`]: there is nothing in it, or too much.
    pub fn text(&self, text: &str, truncate: bool) -> Result<Text, EmbedError> {
        let n_ctx = self.info.n_ctx;
        let most_bytes = n_ctx * self.model.longest_token().max(1);
        let mut text = text;
        if text.len() > most_bytes {
            if !truncate {
                let bytes = text.len();
                return Err(EmbedError::TooManyBytes { bytes, n_ctx });
            }
            text = &text[..text.floor_char_boundary(most_bytes)];
        }
        let mut tokens = self.model.tokenize_plain(text, true);
        if tokens.is_empty() {
            return Err(EmbedError::Empty);
        }
        if tokens.len() > n_ctx {
            if !truncate {
                let tokens = tokens.len();
                return Err(EmbedError::TooLong { tokens, n_ctx });
            }
            // What stands behind every text is needed there.
            let always = self.model.tokenize_plain("", true);
            let behind = always.last().filter(|t| Some(**t) != self.model.bos());
            tokens.truncate(n_ctx - behind.iter().count());
            tokens.extend(behind);
        }
        Ok(Text(tokens))
    }

    /// Has these texts embedded.
    ///
    /// # Errors
    /// [`QueueFull`] when as many requests wait as may, or as many of this client.
    pub fn embed(&self, texts: Vec<Text>, client: Client) -> Result<Embedding, QueueFull> {
        self.waiting.enter(&client)?;
        let (outcome, receiver) = mpsc::unbounded_channel();
        let job = Job {
            done: Vec::with_capacity(texts.len()),
            texts: texts.into(),
            client,
            number: self.restraint.submit(),
            outcome,
        };
        // Should the thread be gone, the job's sender is dropped with it and the receiver ends.
        let _ = self.jobs.as_ref().expect("taken only on drop").send(job);
        Ok(Embedding(receiver))
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic was printed where it happened.
            let _ = thread.join();
        }
    }
}

/// What the context is made for.
struct Shape {
    n_ctx: u32,
    n_batch: u32,
    /// Whether a text is read in slices: where only its last token counts, and no token looks at later ones.
    sliced: bool,
}

impl Shape {
    fn of(file: &Gguf, options: &Options) -> Self {
        let architecture = file.metadata.str("general.architecture");
        let key = |name: &str| format!("{}.{name}", architecture.unwrap_or_default());
        let causal = file.metadata.get(&key("attention.causal"));
        let causal = causal != Some(&cloister_gguf::Value::Bool(false));
        let sliced = causal && Pooling::of(&file.metadata) == Pooling::Last;
        let trained = file.metadata.u64(&key("context_length"));
        let trained = trained.and_then(|n| u32::try_from(n).ok());
        let most = options.n_ctx.unwrap_or(match sliced {
            true => Options::DEFAULT_CTX,
            false => DEFAULT_CTX,
        });
        // Beyond what it was trained for some models have no position.
        let n_ctx = most.min(trained.unwrap_or(most)).max(1);
        Self {
            n_ctx,
            n_batch: if sliced {
                n_ctx.min(SLICE as u32)
            } else {
                n_ctx
            },
            sliced,
        }
    }

    fn memory(&self, kv_type: crate::KvType) -> cloister_gguf::ContextShape {
        let n_outputs = if self.sliced { 1 } else { self.n_batch };
        memory::shape(self.n_ctx, 1, self.n_batch, n_outputs, kv_type)
    }
}
