//! The one thread that owns the llama context: takes requests from the queue into slots, computes
//! all slots together batch by batch, draws tokens, and forgets who has gone away.
//!
//! A prompt is read in slices between the steps of running answers: for the time that a slice took, and a
//! little more, the next steps are the answers' alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::draft_model::DraftModel;
use crate::engine::{Client, Options, Request, Stats};
use crate::error::GenerateError;
use crate::event::{Event, FinishReason};
use crate::llama::{Batch, Context, DecodeError, Model, Token};
use crate::prefix_store::{PrefixStore, WORTH_READING};
use crate::queue::{Admission, Job, Queue};
use crate::restraint::{Pace, Restraint};
use crate::slot::{Slot, Work};
use crate::speculation::{Costs, Outcome};

/// How long a slice of a prompt may keep running answers waiting, and how many tokens the first one has, when
/// it is not known yet how long they take.
const SLICE: Duration = Duration::from_millis(150);
const FIRST_SLICE: usize = 64;
/// Fewer tokens at a time are not worth it, and more fill no larger part of a matrix.
const SLICES: std::ops::RangeInclusive<usize> = 16..=512;
/// ggml computes the attention of so many tokens at a time in tiles, and that of fewer at half the speed.
const TILE: usize = 64;
/// Where so many take as long as a slice may, a tile is tried.
const TILE_WORTH: usize = TILE / 2;

/// The time that a slice took, running answers get back times this.
pub const OWED: f64 = 1.35;

/// Tokens that a slot may compute in each step while it answers: the one that was drawn, and what had to follow.
const MOST_PER_STEP: usize = 16;

/// How often speeds are published while tokens flow.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The longest rest between two batches: a die cools within seconds.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// What one slot has in the batch that is being computed.
struct Planned {
    slot: usize,
    tokens: Vec<Token>,
    /// Tokens behind them that may come next; each has its logits, after those of the last one of `tokens`.
    draft: Vec<Token>,
    /// Whether it is a slice of something long, a prompt for one.
    prefill: bool,
    /// Batch index of the logits to draw from, when the batch reaches the end of the prompt.
    logits: Option<i32>,
}

/// A request of the batch that is being computed.
struct InBatch {
    number: u64,
    events: UnboundedSender<Event>,
}

pub struct Scheduler {
    model: Arc<Model>,
    context: Context,
    batch: Batch,
    slots: Vec<Slot>,
    queue: Queue,
    inbox: Receiver<Job>,
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
    /// Prompt tokens of the next slice beside running answers.
    slice: usize,
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
        inbox: Receiver<Job>,
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
            stop.load(Ordering::Relaxed)
                || senders
                    .lock()
                    .expect("no panic while held")
                    .iter()
                    .any(|of| of.events.is_closed() || from_outside.ends(of.number).is_some())
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
            inbox,
            waiting,
            prefixes,
            writers: Vec::new(),
            stopping,
            restraint,
            n_threads,
            computing: n_threads,
            interruptible,
            stats,
            window: Window {
                since: Instant::now(),
                tokens: 0,
            },
        }
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
            self.step();
            self.rest_after(began.elapsed());
        }
        for slot in &mut self.slots {
            if let Some(work) = slot.work.take() {
                let _ = work.events.send(Event::Failed(GenerateError::Stopped));
            }
        }
        for job in self.queue.drain() {
            let _ = job.events.send(Event::Failed(GenerateError::Stopped));
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
                Ok(job) => self.queue.push(job),
                Err(_) => return false,
            }
            self.window = Window {
                since: Instant::now(),
                tokens: 0,
            };
        }
        loop {
            match self.inbox.try_recv() {
                Ok(job) => self.queue.push(job),
                Err(TryRecvError::Empty) => return !self.stopping.load(Ordering::Relaxed),
                Err(TryRecvError::Disconnected) => return false,
            }
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
        if share < 1.0 {
            self.restraint
                .pause(took.mul_f64(1.0 / share - 1.0).min(LONGEST_REST));
        }
    }

    /// Whom the slots answer.
    fn busy(&self) -> Vec<Client> {
        let busy = self.slots.iter().filter(|slot| slot.work.is_some());
        busy.filter_map(|slot| slot.owner.clone()).collect()
    }

    /// Moves requests from the queue into free slots, each into the one that knows most of it.
    fn assign(&mut self) {
        let mut changed = false;
        while self.slots.iter().any(|slot| slot.work.is_none()) {
            let Some(job) = self.queue.next(&self.busy()) else {
                break;
            };
            self.waiting.leave(&job.request.client);
            let i = self.slot_for(&job.request);
            let slot = &mut self.slots[i];
            let shared = slot.shared_prefix(&job.request);
            let shared = self.context.truncate(slot.seq, shared);
            slot.cached.truncate(shared);
            slot.owner = Some(job.request.client.clone());
            let work = Work::new(job, shared, &self.model);
            work.report_prefill(shared);
            slot.work = Some(work);
            changed = true;
        }
        if changed || !self.queue.is_empty() {
            self.announce_positions();
        }
    }

    /// The free slot that knows most of a request, if need be after it was told what the disk knows.
    fn slot_for(&mut self, request: &Request) -> usize {
        // Of equals the last wins, so backwards: llama.cpp batches neighbours only, and low slots that work
        // are neighbours.
        let free = (0..self.slots.len()).rev();
        let free = free.filter(|i| self.slots[*i].work.is_none());
        let least = |slot: &Slot| usize::MAX - slot.cached.len();
        // With nothing to share, the slot that holds least is the least loss.
        let best = free.clone().max_by_key(|i| {
            let slot = &self.slots[*i];
            (slot.shared_prefix(request), least(slot))
        });
        let best = best.expect("one is free");
        let known = self.slots[best].shared_prefix(request);
        let prompt = &request.prompt.tokens;
        let stored = self.prefixes.as_ref().and_then(|p| p.longest(prompt));
        let Some((n, stored)) = stored.filter(|(n, _)| *n >= known + WORTH_READING) else {
            return best;
        };
        let emptiest = free.max_by_key(|i| least(&self.slots[*i]));
        let emptiest = emptiest.expect("one is free");
        let prefixes = self.prefixes.clone().expect("it had one");
        let Some(state) = prefixes.load(&stored) else {
            return best;
        };
        let slot = &mut self.slots[emptiest];
        slot.cached.clear();
        slot.owner = Some(request.client.clone());
        if self.context.restore(slot.seq, &state) {
            tracing::debug!("{n} tokens of a stored prefix are used");
            slot.cached.extend(&*stored.tokens);
            return emptiest;
        }
        tracing::warn!("a stored prefix is not used: llama.cpp does not take it");
        prefixes.forget(&stored);
        emptiest
    }

    /// Stores what a slot holds, its request's prompt, and ends the request when that is on the disk.
    fn store(&mut self, i: usize, work: Work) {
        self.writers.retain(|writer| !writer.is_finished());
        let seq = self.slots[i].seq;
        let fits = match &self.prefixes {
            None => Err("there is no place for it".to_owned()),
            Some(prefixes) => prefixes.fits(self.context.state_size(seq)),
        };
        let state = fits.and_then(|()| {
            let state = self.context.state_of(seq);
            state.ok_or_else(|| "llama.cpp does not give its state".to_owned())
        });
        let (state, prefixes) = match (state, self.prefixes.clone()) {
            (Ok(state), Some(prefixes)) => (state, prefixes),
            (state, _) => {
                let reason = state.err().unwrap_or_default();
                let _ = work
                    .events
                    .send(Event::Failed(GenerateError::Store(reason)));
                return;
            }
        };
        self.stats.send_modify(|stats| stats.finished += 1);
        // Nobody waits for the disk but who asked for this.
        let write = move || match prefixes.save(&work.tokens, &state) {
            Ok(()) => {
                let (tokens, mib) = (work.tokens.len(), state.len().div_ceil(1 << 20));
                tracing::info!("a template of {tokens} tokens is stored: {mib} MiB");
                work.finish(FinishReason::Stop);
            }
            Err(reason) => {
                tracing::warn!("a template could not be stored: {reason}");
                let _ = work
                    .events
                    .send(Event::Failed(GenerateError::Store(reason)));
            }
        };
        self.writers.push(std::thread::spawn(write));
    }

    fn announce_positions(&mut self) {
        let busy = self.busy();
        self.queue.announce(&busy);
    }

    /// Computes one batch of all slots and deals out its results.
    fn step(&mut self) {
        let planned = self.plan();
        if planned.is_empty() {
            return;
        }
        let drafted = planned.iter().any(|plan| !plan.draft.is_empty());
        let slices = planned.iter().filter(|plan| plan.prefill);
        let prefill: usize = slices.map(|plan| plan.tokens.len()).sum();
        // Several tokens may take longer than who cancels should wait.
        if prefill > 0 || drafted {
            let senders = planned
                .iter()
                .filter_map(|p| self.slots[p.slot].work.as_ref())
                .map(|work| InBatch {
                    number: work.number,
                    events: work.events.clone(),
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
            }
            Err(error) => self.repair(&planned, error),
        }
    }

    /// Fills the batch: what every slot that answers has to compute, or slices of prompts. Not both: ggml would
    /// compute them apart, and what is left of a slice no longer in tiles.
    fn plan(&mut self) -> Vec<Planned> {
        self.batch.clear();
        let mut planned = Vec::new();
        // Never more than all of them have room for together.
        let most = (self.batch.capacity() / self.slots.len()).clamp(1, MOST_PER_STEP);
        let answers = |slot: &Slot| {
            let work = slot.work.as_ref();
            work.is_some_and(|work| !work.reads_prompt() && slot.pending().len() <= most)
        };
        let working = self.slots.iter().filter(|slot| slot.work.is_some()).count();
        let answering = self.slots.iter().filter(|slot| answers(slot)).count();
        if answering > 0 && (answering == working || self.owed > Duration::ZERO) {
            for i in 0..self.slots.len() {
                if answers(&self.slots[i]) {
                    planned.extend(self.plan_slot(i, most, false));
                }
            }
            // Slots that answer together gain from each other already, and a draft of one would be computed apart.
            if let ([plan], 1) = (&mut planned[..], working) {
                self.plan_draft(plan);
            }
            return planned;
        }
        let mut room = self.batch.room();
        if answering > 0 || self.restraint.pace() > Pace::Full {
            room = room.min(self.slice);
        } else {
            self.owed = Duration::ZERO;
        }
        for i in 0..self.slots.len() {
            if room > 0 && !answers(&self.slots[i]) {
                let plan = self.plan_slot(i, room, true);
                room -= plan.as_ref().map_or(0, |plan| plan.tokens.len());
                planned.extend(plan);
            }
        }
        planned
    }

    /// Puts the next tokens of a slot into the batch, at most `room`.
    fn plan_slot(&mut self, i: usize, room: usize, prefill: bool) -> Option<Planned> {
        let slot = &self.slots[i];
        let pending = slot.pending();
        let room = room.min(slot.at_once());
        let tokens = pending[..room.min(pending.len())].to_vec();
        let last = tokens.len().checked_sub(1)?;
        let whole = tokens.len() == pending.len();
        let mut index = 0;
        for (k, &token) in tokens.iter().enumerate() {
            let pos = slot.next_pos() + k as i32;
            index = self.batch.push(token, pos, slot.seq, whole && k == last);
        }
        Some(Planned {
            slot: i,
            tokens,
            prefill,
            draft: Vec::new(),
            logits: whole.then_some(index),
        })
    }

    /// Puts behind what the only slot that works has in the batch what may come next.
    fn plan_draft(&mut self, plan: &mut Planned) {
        let slot = &mut self.slots[plan.slot];
        let Some(work) = slot.work.as_mut().filter(|_| plan.logits.is_some()) else {
            return;
        };
        let model = self.draft_model.as_mut();
        plan.draft = work.draft(plan.tokens.len(), &self.costs, model);
        plan.draft.truncate(self.batch.room());
        let first = slot.cached.len() + plan.tokens.len();
        for (pos, token) in (first..).zip(&plan.draft) {
            self.batch.push(*token, pos as i32, slot.seq, true);
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

/// Tokens of the next slice where prompts are read at `speed`, in tokens per second.
fn slice_at(speed: f64) -> usize {
    let tokens = (speed * SLICE.as_secs_f64()) as usize;
    let tokens = match tokens {
        // Whole tiles. Half of one may be twice as fast if it was measured at less than one.
        TILE_WORTH.. => (tokens + TILE / 2) / TILE * TILE,
        _ => tokens,
    };
    tokens.clamp(*SLICES.start(), *SLICES.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_whole_tiles_where_a_tile_does_not_take_too_long() {
        for (speed, tokens) in [
            (40.0, 16),
            (140.0, 21),
            (220.0, 64),
            (700.0, 128),
            (1e5, 512),
        ] {
            assert_eq!(slice_at(speed), tokens, "{speed} tokens per second");
        }
    }
}
