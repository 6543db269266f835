//! The one thread that owns the llama context: takes requests from the queue into slots, computes
//! all slots together batch by batch, draws tokens, and forgets who has gone away.
//!
//! A prompt is read in slices between the steps of running answers: for the time that a slice took, and a
//! little more, the next steps are the answers' alone.

mod assign;
mod batch;
mod self_test;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use self::batch::{FIRST_SLICE, Planned, TILE, first_lone_slice, lone_slice_at, slice_at};
use crate::draft_model::DraftModel;
use crate::engine::{Options, Stats};
use crate::error::GenerateError;
use crate::event::{Event, FinishReason};
use crate::llama::{Batch, Context, DecodeError, Model};
use crate::prefix_store::PrefixStore;
use crate::queue::{Admission, Job, Queue};
use crate::restraint::Restraint;
use crate::slot::{Slot, Work};
use crate::speculation::{Costs, Outcome};

/// The time that a slice took, running answers get back times this.
pub const OWED: f64 = 1.35;

/// How often speeds are published while tokens flow.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The longest rest between two batches: what the longest of them wants at the slowest pace.
const LONGEST_REST: Duration = Duration::from_secs(15);

/// How often a rest looks whether it is still wanted.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// What comes to the scheduler.
pub enum Incoming {
    /// A request.
    Job(Box<Job>),
    /// Whether it still computes.
    Test(self_test::Question),
}

/// A request of the batch that is being computed.
struct InBatch {
    number: u64,
    events: UnboundedSender<Event>,
    deadline: Option<Instant>,
    /// Of the batch.
    tokens: usize,
}

impl InBatch {
    /// Whether nobody waits for it any more, or may.
    fn is_gone(&self, restraint: &Restraint) -> bool {
        self.events.is_closed()
            || self.deadline.is_some_and(|at| Instant::now() >= at)
            || restraint.ends(self.number).is_some()
    }
}

/// Whether at least half of a batch is for nobody: it is given up, and the others' part of it computed again.
fn is_for_nobody(batch: &[InBatch], restraint: &Restraint) -> bool {
    let gone = batch.iter().filter(|one| one.is_gone(restraint));
    let gone: usize = gone.map(|one| one.tokens).sum();
    gone > 0 && 2 * gone >= batch.iter().map(|one| one.tokens).sum()
}

pub struct Scheduler {
    model: Arc<Model>,
    context: Context,
    batch: Batch,
    slots: Vec<Slot>,
    queue: Queue,
    inbox: Receiver<Incoming>,
    /// Who asks whether it still computes.
    tests: Vec<self_test::Question>,
    /// Shared with the front, which admits by it: jobs sent and not yet in a slot.
    waiting: Arc<Admission>,
    prefixes: Option<Arc<PrefixStore>>,
    /// The threads that write prefixes.
    writers: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    restraint: Arc<Restraint>,
    /// Threads that may compute, and that do.
    n_threads: usize,
    computing: usize,
    /// Requests that got a slot so far.
    assigned: u64,
    /// Whom a cancel may interrupt: the requests in the batch, while it is one worth interrupting.
    interruptible: Arc<Mutex<Vec<InBatch>>>,
    stats: watch::Sender<Stats>,
    window: Window,
    /// What batches of one slot take.
    costs: Costs,
    /// Says what may come next where it has not been said before.
    draft_model: Option<DraftModel>,
    /// Time that running answers are owed before the next slice of a prompt.
    owed: Duration,
    /// Prompt tokens of the next slice beside running answers, and of one that has the engine for itself.
    slice: usize,
    lone_slice: usize,
}

/// Tokens generated since speeds were published last.
struct Window {
    since: Instant,
    tokens: usize,
}

impl Scheduler {
    pub fn new(
        mut context: Context,
        options: &Options,
        inbox: Receiver<Incoming>,
        waiting: Arc<Admission>,
        prefixes: Option<Arc<PrefixStore>>,
        stats: watch::Sender<Stats>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let restraint = options.restraint.clone();
        let n_threads = context.n_threads();
        let interruptible = Arc::new(Mutex::new(Vec::<InBatch>::new()));
        let (senders, stop, from_outside) =
            (interruptible.clone(), stopping.clone(), restraint.clone());
        context.set_abort(move || {
            let batch = || senders.lock().expect("no panic while held");
            stop.load(Ordering::Relaxed) || is_for_nobody(&batch(), &from_outside)
        });
        Self {
            batch: Batch::new(context.n_batch() as usize),
            slots: (0..options.n_slots as i32).map(Slot::new).collect(),
            model: context.model().clone(),
            context,
            queue: Queue::default(),
            costs: Costs::default(),
            draft_model: None,
            owed: Duration::ZERO,
            slice: FIRST_SLICE,
            lone_slice: usize::MAX,
            inbox,
            tests: Vec::new(),
            waiting,
            prefixes,
            writers: Vec::new(),
            stopping,
            restraint,
            n_threads,
            computing: n_threads,
            assigned: 0,
            interruptible,
            stats,
            window: Window {
                since: Instant::now(),
                tokens: 0,
            },
        }
    }

    /// Expects prompts to be read by what one token took, until it is measured.
    pub fn with_step(mut self, took: Option<Duration>) -> Self {
        self.lone_slice = took.map_or(usize::MAX, first_lone_slice);
        self
    }

    /// Has a small model say what may come next.
    pub fn with_draft_model(mut self, model: Option<DraftModel>) -> Self {
        self.draft_model = model;
        self
    }

    /// Works until the engine is dropped.
    pub fn run(mut self) {
        while self.receive() {
            self.drop_gone();
            self.assign();
            self.publish();
            let began = Instant::now();
            let computed = self.step();
            self.answer_tests(computed);
            self.rest_after(began.elapsed());
        }
        let restraint = self.restraint.clone();
        let why = |number| restraint.ends(number).unwrap_or(GenerateError::Stopped);
        for slot in &mut self.slots {
            if let Some(work) = slot.work.take() {
                let _ = work.events.send(Event::Failed(why(work.number)));
            }
        }
        for job in self.queue.drain() {
            let _ = job.events.send(Event::Failed(why(job.number)));
        }
        for writer in self.writers {
            // A panic was printed where it happened.
            let _ = writer.join();
        }
    }

    /// Takes in what was submitted; sleeps when there is nothing to do. `false` to stop.
    fn receive(&mut self) -> bool {
        let idle = self.queue.is_empty() && self.slots.iter().all(|slot| slot.work.is_none());
        if idle {
            self.publish();
            match self.inbox.recv() {
                Ok(incoming) => self.take(incoming),
                Err(_) => return false,
            }
            self.window = Window {
                since: Instant::now(),
                tokens: 0,
            };
        }
        loop {
            match self.inbox.try_recv() {
                Ok(incoming) => self.take(incoming),
                Err(TryRecvError::Empty) => return !self.stopping.load(Ordering::Relaxed),
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Job(job) => self.queue.push(*job),
            Incoming::Test(question) => self.tests.push(question),
        }
    }

    /// Drops who has gone away, whose time is over, and who is not to be answered any more.
    fn drop_gone(&mut self) {
        let now = Instant::now();
        let mut gone = 0;
        for job in self.queue.drop_gone(now, &self.restraint) {
            self.waiting.leave(&job.request.client);
            gone += 1;
        }
        if gone > 0 {
            self.announce_positions();
        }
        for slot in &mut self.slots {
            let over = |work: &mut Work| {
                work.cancelled() || work.too_late(now) || work.is_ended_by(&self.restraint)
            };
            if slot.work.take_if(over).is_some() {
                gone += 1;
            }
        }
        if gone > 0 {
            self.stats.send_modify(|stats| stats.cancelled += gone);
        }
    }

    /// Has the threads rest after so much work, as the pace wants it.
    fn rest_after(&mut self, took: Duration) {
        let pace = self.restraint.pace();
        let (threads, share) = pace.threads(self.n_threads);
        if threads != self.computing {
            self.context.set_threads(threads);
            self.computing = threads;
        }
        let until = Instant::now() + took.mul_f64(1.0 / share - 1.0).min(LONGEST_REST);
        let wanted = || self.restraint.pace() == pace && !self.stopping.load(Ordering::Relaxed);
        while wanted() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.restraint.pause(left.min(LOOK_UP_EVERY));
        }
    }

    fn announce_positions(&mut self) {
        let busy = self.busy();
        self.queue.announce(&busy);
    }

    /// Computes one batch of all slots and deals out its results; whether there was one, and no error.
    fn step(&mut self) -> bool {
        let planned = self.plan();
        if planned.is_empty() {
            return false;
        }
        let drafted = planned.iter().any(|plan| !plan.draft.is_empty());
        let slices = planned.iter().filter(|plan| plan.prefill);
        let prefill: usize = slices.map(|plan| plan.tokens.len()).sum();
        // Several tokens may take longer than who cancels should wait.
        if prefill > 0 || drafted {
            let senders = planned.iter().filter_map(|plan| {
                let work = self.slots[plan.slot].work.as_ref()?;
                Some(InBatch {
                    number: work.number,
                    events: work.events.clone(),
                    deadline: work.deadline,
                    tokens: plan.tokens.len() + plan.draft.len(),
                })
            });
            *self.interruptible.lock().expect("no panic while held") = senders.collect();
        }
        let result = self.context.decode(&self.batch);
        self.interruptible
            .lock()
            .expect("no panic while held")
            .clear();
        match result {
            Ok(took) => {
                self.stats.send_modify(|stats| stats.batches += 1);
                self.owed = match prefill {
                    0 => self.owed.saturating_sub(took),
                    _ => took.mul_f64(OWED),
                };
                if prefill > 0 {
                    let speed = prefill as f64 / took.as_secs_f64();
                    self.slice = slice_at(speed);
                    // A few tokens take as long as many.
                    if prefill >= self.lone_slice.min(TILE) {
                        self.lone_slice = lone_slice_at(speed);
                    }
                    self.stats.send_modify(|stats| {
                        stats.prefill_per_second = speed;
                        stats.prompt_tokens += prefill as u64;
                    });
                }
                if let [plan] = &planned[..] {
                    let n = plan.tokens.len() + plan.draft.len();
                    self.costs.measured(n, took);
                }
                for plan in planned {
                    self.advance(plan, took);
                }
                true
            }
            Err(error) => {
                self.repair(&planned, error);
                false
            }
        }
    }

    /// Takes one slot's share of a computed batch, which took so long: its tokens are in the cache; its next one is
    /// drawn, and those after it for as long as they are the ones that were drafted.
    fn advance(&mut self, plan: Planned, took: Duration) {
        let slot = &mut self.slots[plan.slot];
        let Some(mut work) = slot.work.take() else {
            return;
        };
        slot.cached.extend(&plan.tokens);
        if work.reads_prompt() {
            work.report_prefill(slot.cached.len());
        }
        let Some(logits) = plan.logits else {
            slot.work = Some(work);
            return;
        };
        if work.stores {
            self.store(plan.slot, work);
            return;
        }
        let before = work.generated();
        let begin = slot.cached.len();
        let mut came = 0;
        let ended = loop {
            let ended = work.go_on(&mut self.context, logits + came as i32, &self.model);
            let news = &work.tokens[begin..];
            let before = came;
            came = plan
                .draft
                .iter()
                .zip(news)
                .take_while(|(a, b)| a == b)
                .count();
            if !matches!(ended, Ok(None)) || came == before || came < news.len() {
                break ended;
            }
        };
        self.window.tokens += work.generated() - before;
        slot.cached.extend(&plan.draft[..came]);
        if came < plan.draft.len() {
            let kept = self.context.truncate(slot.seq, slot.cached.len());
            slot.cached.truncate(kept);
        }
        let outcome = Outcome {
            pending: plan.tokens.len(),
            drafted: plan.draft.len(),
            accepted: came,
            took,
        };
        let model = self.draft_model.as_mut().map(|model| &mut model.record);
        work.drafter.outcome(&outcome, &self.costs, model);
        match ended {
            Ok(None) => slot.work = Some(work),
            Ok(Some(reason)) => self.finish(work, reason),
            Err(error) => {
                let _ = work.events.send(Event::Failed(error));
            }
        }
    }

    fn finish(&mut self, work: Work, reason: FinishReason) {
        work.finish(reason);
        self.stats.send_modify(|stats| stats.finished += 1);
    }

    /// Brings the KV cache back to what the slots say, or the slots to what it can keep, after a batch
    /// that was not computed whole. An aborted batch is planned again without who has gone; a failed one
    /// ends its requests.
    fn repair(&mut self, planned: &[Planned], error: DecodeError) {
        for plan in planned {
            let slot = &mut self.slots[plan.slot];
            let kept = self.context.truncate(slot.seq, slot.cached.len());
            if let DecodeError::Failed(code) = error
                && let Some(work) = slot.work.take()
            {
                let _ = work.events.send(Event::Failed(GenerateError::Decode(code)));
            }
            if kept < slot.cached.len() {
                slot.cached.truncate(kept);
                if let Some(work) = &mut slot.work {
                    work.read_again();
                }
            }
        }
    }

    fn publish(&mut self) {
        let elapsed = self.window.since.elapsed();
        let busy = self.slots.iter().filter(|slot| slot.work.is_some()).count();
        let waiting = self.queue.len();
        let works = self.slots.iter().filter_map(|slot| slot.work.as_ref());
        let phase = works.map(Work::phase).max().unwrap_or_default();
        let due = self.window.tokens > 0 && (elapsed >= STATS_EVERY || busy == 0);
        let tokens = self.window.tokens;
        self.stats.send_if_modified(|stats| {
            let changed =
                stats.busy != busy || stats.waiting != waiting || stats.phase != phase || due;
            stats.busy = busy;
            stats.phase = phase;
            stats.waiting = waiting;
            if due {
                stats.decode_per_second = tokens as f64 / elapsed.as_secs_f64();
                stats.generated_tokens += tokens as u64;
            }
            changed
        });
        if due {
            self.window = Window {
                since: Instant::now(),
                tokens: 0,
            };
        }
    }
}
