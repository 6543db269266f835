//! Which slot takes a request, and what becomes of what a slot knows.

use super::Scheduler;
use crate::engine::{Client, Request};
use crate::error::GenerateError;
use crate::event::{Event, FinishReason};
use crate::prefix_store::WORTH_READING;
use crate::slot::{Slot, Work};

impl Scheduler {
    /// Whom the slots answer.
    pub(super) fn busy(&self) -> Vec<Client> {
        let busy = self.slots.iter().filter(|slot| slot.work.is_some());
        busy.filter_map(|slot| slot.owner.clone()).collect()
    }

    /// Moves requests from the queue into free slots, each into the one that knows most of it.
    pub(super) fn assign(&mut self) {
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
    pub(super) fn store(&mut self, i: usize, work: Work) {
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
}
