//! Which slot takes a request, and what becomes of what a slot knows.

use super::Scheduler;
use crate::engine::{Client, Request};
use crate::error::GenerateError;
use crate::event::{Event, FinishReason};
use crate::llama::Token;
use crate::prefix_store::WORTH_READING;
use crate::slot::{Slot, Work};

impl Scheduler {
    /// Whom the slots answer.
    pub(super) fn busy(&self) -> Vec<Client> {
        let busy = self.slots.iter().filter(|slot| slot.work.is_some());
        busy.filter_map(|slot| slot.owner.clone()).collect()
    }

    /// Moves requests from the queue into free slots, each into the one that knows most of it or can be told.
    pub(super) fn assign(&mut self) {
        let mut changed = false;
        loop {
            let free = self.slots.iter().filter(|slot| slot.work.is_none()).count();
            // The last one of several is for people.
            let people_only = free == 1 && self.slots.len() > 2;
            let next = (free > 0).then(|| self.queue.next(&self.busy(), people_only));
            let Some(job) = next.flatten() else {
                break;
            };
            self.waiting.leave(&job.request.client);
            let i = self.slot_for(&job.request);
            let slot = &mut self.slots[i];
            let shared = slot.shared_prefix(&job.request);
            let shared = self.context.truncate(slot.seq, shared);
            slot.cached.truncate(shared);
            slot.owner = Some(job.request.client.clone());
            slot.asked = job.request.prompt.tokens.len();
            self.assigned += 1;
            slot.used = self.assigned;
            let work = Work::new(job, shared, &self.model);
            work.report_prefill(shared);
            slot.work = Some(work);
            changed = true;
        }
        if changed || !self.queue.is_empty() {
            self.announce_positions();
        }
    }

    /// The free slot for a request: the one that knows most of it, if that loses nothing else worth keeping; or else the
    /// one whose loss is least, after it was told what another slot or the disk knows.
    fn slot_for(&mut self, request: &Request) -> usize {
        let known = |slot: &Slot| slot.shared_prefix(request);
        let all = 0..self.slots.len();
        let is_free = |i: &usize| self.slots[*i].work.is_none();
        // Of equals the lowest: llama.cpp batches neighbours only, and low slots that work are neighbours. An empty one
        // first, and then the one that was asked longest ago.
        let oldest = all.clone().filter(is_free).min_by_key(|i| {
            let slot = &self.slots[*i];
            (!slot.cached.is_empty(), slot.used)
        });
        let oldest = oldest.expect("one is free");
        let own = all.clone().filter(is_free).rev();
        let own = own.max_by_key(|i| known(&self.slots[*i]));
        let own = own.expect("one is free");
        let source = all.rev().max_by_key(|i| known(&self.slots[*i]));
        let source = source.expect("there is a slot");

        let prompt = &request.prompt.tokens;
        let most = known(&self.slots[source]);
        let stored = self.prefixes.as_ref().and_then(|p| p.longest(prompt));
        if let Some((_, stored)) = stored.filter(|(n, _)| *n >= most + WORTH_READING) {
            let prefixes = self.prefixes.clone().expect("it had one");
            if let Some(state) = prefixes.load(&stored) {
                if !self.tell(oldest, request, &stored.tokens, &state) {
                    tracing::warn!("a stored prefix is not used: llama.cpp does not take it");
                    prefixes.forget(&stored);
                }
                return oldest;
            }
        }
        let slot = &self.slots[own];
        let lost = slot.asked.min(slot.cached.len());
        let lost = lost.saturating_sub(known(slot));
        if known(slot) + WORTH_READING > most && (lost < WORTH_READING || own == oldest) {
            return own;
        }
        if most >= WORTH_READING && source != oldest {
            let tokens = self.slots[source].cached.clone();
            let seq = self.slots[source].seq;
            if let Some(state) = self.context.state_of(seq) {
                let _ = self.tell(oldest, request, &tokens, &state);
            }
        }
        oldest
    }

    /// Gives a free slot what the model has made of `tokens`. Whether llama.cpp takes it; else the slot is empty.
    #[must_use]
    fn tell(&mut self, i: usize, request: &Request, tokens: &[Token], state: &[u8]) -> bool {
        let slot = &mut self.slots[i];
        slot.cached.clear();
        slot.owner = Some(request.client.clone());
        let taken = self.context.restore(slot.seq, state);
        if taken {
            slot.cached.extend(tokens);
        }
        taken
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
