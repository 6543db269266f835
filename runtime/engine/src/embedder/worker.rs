//! The one thread that computes with a model that makes vectors.
//!
//! In: requests, each of some texts. Out: their vectors. Requests take turns text by text, so that a long list keeps nobody
//! waiting; where an answer is written on the same cores, it has them in between for as long as a text took.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Outcome, SLICE, Shape, Text};
use crate::engine::Client;
use crate::error::GenerateError;
use crate::llama::{Batch, Context, DecodeError, Token};
use crate::queue::Admission;
use crate::restraint::Restraint;
use crate::scheduler::OWED;

/// Tokens that are computed together while somebody else computes, too.
const SHORT_SLICE: usize = 64;

/// How often one that owes time looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(5);

/// Who waits longer than this to compute is not alone.
const ALONE: Duration = Duration::from_millis(1);

/// Texts that wait, and what has been made of those before them.
pub struct Job {
    pub texts: VecDeque<Text>,
    pub done: Vec<Vec<f32>>,
    pub client: Client,
    /// As [`Restraint`] counts it.
    pub number: u64,
    pub outcome: mpsc::UnboundedSender<Outcome>,
}

/// Who has asked for a text.
struct Asker {
    number: u64,
    outcome: mpsc::UnboundedSender<Outcome>,
}

/// The thread's own.
pub struct Worker {
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
    pub fn new(
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
    pub fn run(mut self) {
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
