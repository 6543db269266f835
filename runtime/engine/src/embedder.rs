//! A model that makes vectors of texts, and the one thread that computes with it.
//!
//! In: texts. Out: one vector each, as the model makes them, not brought to length 1. Requests take turns text by
//! text, so that a long list keeps nobody waiting; where an answer is written on the same cores, it has them in
//! between for as long as a text took. Dropping an [`Embedding`] cancels it. Never stores or logs a text.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloister_gguf::Gguf;
use tokio::sync::mpsc;

use crate::engine::{Client, Options};
use crate::error::{EmbedError, GenerateError, LoadError, QueueFull};
use crate::llama::{Batch, Context, ContextParams, DecodeError, Model, Token, first_error};
use crate::memory;
use crate::model::id_of;
use crate::pooling::Pooling;
use crate::queue::Admission;
use crate::restraint::Restraint;
use crate::scheduler::OWED;

/// Most tokens of a text unless told otherwise, for models trained for more. Those of a text are computed together,
/// where the model looks at them in both directions, and its attention takes the square of them.
const DEFAULT_CTX: u32 = 2048;

/// Tokens that are computed together where a text can be read in slices; and while somebody else computes, too.
const SLICE: usize = 512;
const SHORT_SLICE: usize = 64;

/// How often one that owes time looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(5);

/// Who waits longer than this to compute is not alone.
const ALONE: Duration = Duration::from_millis(1);

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
        let need = memory::check(&[(&file, shape.memory(options.kv_type))]);
        let need = need.map_err(|reason| LoadError::Memory {
            path: path.to_owned(),
            reason,
        })?;
        if let Some(rehearse) = options.rehearse {
            rehearse(path, options).map_err(LoadError::Rehearsal)?;
        }
        cloister_kernels::enable(options.kernels);
        let model = Model::load(path, crate::llama::repacking_pays(&file));
        let model = Arc::new(model.ok_or_else(|| LoadError::unsupported(path))?);
        let params = ContextParams {
            n_ctx_seq: shape.n_ctx,
            n_seq: 1,
            n_batch: shape.n_batch,
            n_threads: options.n_threads.unwrap_or_else(crate::usable_cores),
            kv_type: options.kv_type,
        };
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
            memory: need.unwrap_or_else(|| model.size()),
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

/// Texts that wait, and what has been made of those before them.
struct Job {
    texts: VecDeque<Text>,
    done: Vec<Vec<f32>>,
    client: Client,
    /// As [`Restraint`] counts it.
    number: u64,
    outcome: mpsc::UnboundedSender<Outcome>,
}

/// Who has asked for a text.
struct Asker {
    number: u64,
    outcome: mpsc::UnboundedSender<Outcome>,
}

/// The thread's own.
struct Worker {
    context: Context,
    batch: Batch,
    sliced: bool,
    inbox: Receiver<Job>,
    waiting: Arc<Admission>,
    restraint: Arc<Restraint>,
    stopping: Arc<AtomicBool>,
    /// Whose text is being computed.
    current: Arc<Mutex<Option<Asker>>>,
    /// Time that somebody else is to have the cores before the next batch.
    owed: Duration,
}

impl Worker {
    fn new(
        mut context: Context,
        shape: &Shape,
        inbox: Receiver<Job>,
        waiting: Arc<Admission>,
        restraint: Arc<Restraint>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let current = Arc::new(Mutex::new(None::<Asker>));
        let (asker, stop, from_outside) = (current.clone(), stopping.clone(), restraint.clone());
        context.set_abort(move || {
            let asker = asker.lock().expect("no panic while held");
            stop.load(Ordering::Relaxed)
                || asker.as_ref().is_some_and(|asker| {
                    asker.outcome.is_closed() || from_outside.ends(asker.number).is_some()
                })
        });
        Self {
            batch: Batch::new(shape.n_batch as usize),
            // An encoder has nowhere to keep what it made of earlier slices.
            sliced: shape.sliced && context.has_cache(),
            context,
            inbox,
            waiting,
            restraint,
            stopping,
            current,
            owed: Duration::ZERO,
        }
    }

    /// Works until the embedder is dropped.
    fn run(mut self) {
        let mut jobs: VecDeque<Job> = VecDeque::new();
        while !self.stopping.load(Ordering::Relaxed) {
            if jobs.is_empty() {
                let Ok(job) = self.inbox.recv() else { return };
                jobs.push_back(job);
            }
            jobs.extend(self.inbox.try_iter());
            let Some(mut job) = jobs.pop_front() else {
                continue;
            };
            match self.next(&mut job) {
                None if job.outcome.is_closed() => self.waiting.leave(&job.client),
                None => jobs.push_back(job),
                Some(outcome) => {
                    self.waiting.leave(&job.client);
                    // A closed channel is a cancel.
                    let _ = job.outcome.send(outcome);
                }
            }
        }
    }

    /// Embeds the next text of a job. Gives what became of the job, if that was its last.
    fn next(&mut self, job: &mut Job) -> Option<Outcome> {
        if let Some(why) = self.restraint.ends(job.number) {
            return Some(Err(why));
        }
        if let Some(text) = job.texts.pop_front() {
            *self.current.lock().expect("no panic while held") = Some(Asker {
                number: job.number,
                outcome: job.outcome.clone(),
            });
            match self.vector(&text.0) {
                Ok(vector) => job.done.push(vector),
                Err(DecodeError::Aborted) if job.outcome.is_closed() => return None,
                Err(DecodeError::Aborted) => {
                    let why = self.restraint.ends(job.number);
                    return Some(Err(why.unwrap_or(GenerateError::Stopped)));
                }
                Err(DecodeError::Failed(code)) => return Some(Err(GenerateError::Decode(code))),
            }
        }
        job.texts
            .is_empty()
            .then(|| Ok(std::mem::take(&mut job.done)))
    }

    fn vector(&mut self, tokens: &[Token]) -> Result<Vec<f32>, DecodeError> {
        let _ = self.context.truncate(0, 0);
        let mut begin = 0;
        if self.sliced {
            // Vectors, and with them logits, of the last token only.
            self.context.set_embeddings(false);
            while begin + 1 < tokens.len() {
                let slice = if self.owed.is_zero() {
                    SLICE
                } else {
                    SHORT_SLICE
                };
                let slice = slice.min(self.batch.capacity());
                let end = (begin + slice).min(tokens.len() - 1);
                self.compute(&tokens[begin..end], begin, false)?;
                begin = end;
            }
            self.context.set_embeddings(true);
        }
        self.compute(&tokens[begin..], begin, true)?;
        let vector = self.context.embedding(0);
        vector.map(<[f32]>::to_vec).ok_or(DecodeError::Failed(-1))
    }

    fn compute(&mut self, tokens: &[Token], begin: usize, output: bool) -> Result<(), DecodeError> {
        let owed = Instant::now() + std::mem::take(&mut self.owed);
        while Instant::now() < owed && !self.stopping.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
        }
        self.batch.clear();
        for (pos, token) in (begin..).zip(tokens) {
            self.batch.push(*token, pos as i32, 0, output);
        }
        let asked = Instant::now();
        let took = self.context.decode(&self.batch)?;
        let share = self.restraint.pace().share();
        if share < 1.0 {
            self.restraint.pause(took.mul_f64(1.0 / share - 1.0));
        }
        if asked.elapsed().saturating_sub(took) > ALONE {
            self.owed = took.mul_f64(OWED);
        }
        Ok(())
    }
}
