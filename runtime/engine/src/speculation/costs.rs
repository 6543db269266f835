//! What batches take on this machine, by their number of tokens: measured, or guessed from those that were.

use std::time::Duration;

use super::MOST_DRAFTED;

/// What a batch of one slot takes, by its number of tokens.
#[derive(Default)]
pub struct Costs {
    /// What `n` tokens take, at index `n`, where measured.
    known: [Option<Known>; MOST_DRAFTED + 2],
    /// Seconds of each token of a long batch: a guess of what one more takes, until measured.
    of_many: f64,
    /// Batches measured so far.
    batches: u64,
}

#[derive(Clone, Copy)]
struct Known {
    seconds: f64,
    /// The batch after which it was measured last.
    at: u64,
}

/// Batches after which a measurement is forgotten: one that another program disturbed says that drafts of its length do not
/// pay, and so would never be made again.
pub(super) const FORGOTTEN: u64 = 200;

impl Costs {
    /// A batch of `n` tokens of one slot, and nothing else, took so long.
    pub fn measured(&mut self, n: usize, took: Duration) {
        let took = took.as_secs_f64();
        self.batches += 1;
        let at = self.batches;
        let Some(place) = self.known.get_mut(n) else {
            self.of_many = took / n as f64;
            return;
        };
        let seconds = match place.filter(|known| at - known.at <= FORGOTTEN) {
            Some(Known { seconds, .. }) => seconds + 0.25 * (took - seconds),
            None => took,
        };
        *place = Some(Known { seconds, at });
    }

    fn known(&self, n: usize) -> Option<(usize, f64)> {
        let known = (*self.known.get(n)?)?;
        (self.batches - known.at <= FORGOTTEN).then_some((n, known.seconds))
    }

    /// Seconds of a batch of `n` tokens. None as long as nothing is known.
    pub fn of(&self, n: usize) -> Option<f64> {
        let (m, below) = (1..=n).rev().find_map(|m| self.known(m))?;
        let above = (n..self.known.len()).find_map(|m| self.known(m));
        let each = match above {
            Some((h, _)) if h == m => 0.0,
            Some((h, above)) => (above - below) / (h - m) as f64,
            None => self.of_many,
        };
        Some(below + each * (n - m) as f64)
    }
}
