//! What the next batch computes: the next tokens of the answers, or slices of prompts.

use std::time::Duration;

use super::Scheduler;
use crate::llama::Token;
use crate::restraint::Pace;
use crate::slot::{Slot, Work};

/// How long a slice of a prompt may keep running answers waiting, and how many tokens the first one has, when
/// it is not known yet how long they take.
const SLICE: Duration = Duration::from_millis(150);
pub const FIRST_SLICE: usize = 64;
/// How long a slice may take that keeps nobody waiting: watchdogs see that the engine moves, and whoever wants it slower is
/// heard, only between two of them.
const LONE_SLICE: Duration = Duration::from_secs(20);
/// Fewer tokens at a time are not worth it, and more fill no larger part of a matrix.
const SLICES: std::ops::RangeInclusive<usize> = 16..=512;
/// ggml computes the attention of so many tokens at a time in tiles, and that of fewer at half the speed.
pub const TILE: usize = 64;
/// Where so many take as long as a slice may, a tile is tried.
const TILE_WORTH: usize = TILE / 2;

/// Tokens that a slot may compute in each step while it answers: the one that was drawn, and what had to follow.
const MOST_PER_STEP: usize = 16;

/// What one slot has in the batch that is being computed.
pub struct Planned {
    pub slot: usize,
    pub tokens: Vec<Token>,
    /// Tokens behind them that may come next; each has its logits, after those of the last one of `tokens`.
    pub draft: Vec<Token>,
    /// Whether it is a slice of something long, a prompt for one.
    pub prefill: bool,
    /// Batch index of the logits to draw from, when the batch reaches the end of the prompt.
    pub logits: Option<i32>,
}

impl Scheduler {
    /// Fills the batch: what every slot that answers has to compute, or slices of prompts. Not both: ggml would
    /// compute them apart, and what is left of a slice no longer in tiles.
    pub(super) fn plan(&mut self) -> Vec<Planned> {
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
            room = room.min(self.lone_slice);
            self.owed = Duration::ZERO;
        }
        let reading = (0..self.slots.len()).filter(|i| !answers(&self.slots[*i]));
        let shares = self.shares(reading.collect(), room);
        for (i, share) in shares {
            planned.extend(self.plan_slot(i, share, true));
        }
        planned
    }

    /// How many tokens each of these slots may have of `room`, by slot. What an answer needs to go on comes first, then people
    /// before automations, and what is read soon before what takes long; each leaves the next ones a quarter, so that nobody
    /// stands still.
    fn shares(&self, mut reading: Vec<usize>, mut room: usize) -> Vec<(usize, usize)> {
        let pending = |i: usize| self.slots[i].pending().len();
        reading.retain(|i| pending(*i) > 0);
        reading.sort_by_key(|i| {
            let work = self.slots[*i].work.as_ref();
            let reads = work.is_some_and(Work::reads_prompt);
            let priority = work.map(|work| work.priority);
            (reads, priority, pending(*i))
        });
        let mut shares = Vec::new();
        for (k, i) in reading.iter().enumerate() {
            let left = if k + 1 < reading.len() { room / 4 } else { 0 };
            let share = pending(*i).min(room - left);
            room -= share;
            shares.push((*i, share));
        }
        for (i, share) in &mut shares {
            let more = (pending(*i) - *share).min(room);
            room -= more;
            *share += more;
        }
        shares.retain(|(_, share)| *share > 0);
        // llama.cpp computes neighbours together.
        shares.sort_unstable();
        shares
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
}

/// Tokens of the next slice where prompts are read at `speed`, in tokens per second.
pub fn slice_at(speed: f64) -> usize {
    let tokens = (speed * SLICE.as_secs_f64()) as usize;
    let tokens = match tokens {
        // Whole tiles. Half of one may be twice as fast if it was measured at less than one.
        TILE_WORTH.. => (tokens + TILE / 2) / TILE * TILE,
        _ => tokens,
    };
    tokens.clamp(*SLICES.start(), *SLICES.end())
}

/// Tokens of the first slice that has the engine for itself, where a lone token takes so long: beside others it takes a quarter
/// of that, or less.
pub fn first_lone_slice(step: Duration) -> usize {
    lone_slice_at(4.0 / step.as_secs_f64())
}

/// Tokens of the next slice that has the engine for itself, where prompts are read at `speed`.
pub fn lone_slice_at(speed: f64) -> usize {
    let tokens = (speed * LONE_SLICE.as_secs_f64()) as usize;
    let tokens = match tokens {
        TILE.. => tokens / TILE * TILE,
        _ => tokens,
    };
    tokens.max(*SLICES.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_slice_of_a_slow_machine_takes_longer_than_a_watchdog_waits() {
        for (speed, tokens) in [(0.5, 16), (2.0, 40), (4.0, 64), (700.0, 13_952)] {
            assert_eq!(lone_slice_at(speed), tokens, "{speed} tokens per second");
        }
    }

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
