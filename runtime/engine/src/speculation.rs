//! Speculation: tokens that may come next are computed together with the last one, and those that then come
//! are had for little more.
//!
//! In: the prompt and the answer so far, what batches of each size take on this machine, and what has come of
//! drafts. Out: a draft of what came after the same tokens before, or how many tokens of a draft model are worth their
//! time; none where none pays. The sampler draws each token from the model's own logits as
//! it would without; a draft only says which logits are worth computing ahead. Must never cost more than it may
//! lose: a small share of the time that the answer takes.

use std::time::Duration;

use crate::llama::Token;

/// Most tokens of a draft. Each asks for logits, which take memory.
pub const MOST_DRAFTED: usize = 15;

/// Tokens that must have come before in the same order for what followed them to be a draft, and how many are
/// looked at.
const MATCH: std::ops::RangeInclusive<usize> = 2..=12;

/// Share of the time of an answer that drafts may lose, beside one step of it.
const MAY_LOSE: f64 = 0.015;

/// A draft must promise to be faster by this factor.
const PAYS: f64 = 1.03;

/// What a batch of one slot takes, by its number of tokens.
#[derive(Default)]
pub struct Costs {
    /// Seconds of `n` tokens at index `n`, where measured.
    seconds: [Option<f64>; MOST_DRAFTED + 2],
    /// Seconds of each token of a long batch: a guess of what one more takes, until measured.
    of_many: f64,
}

impl Costs {
    /// A batch of `n` tokens of one slot, and nothing else, took so long.
    pub fn measured(&mut self, n: usize, took: Duration) {
        let took = took.as_secs_f64();
        match self.seconds.get_mut(n) {
            Some(Some(known)) => *known += 0.25 * (took - *known),
            Some(unknown) => *unknown = Some(took),
            None => self.of_many = took / n as f64,
        }
    }

    /// Seconds of a batch of `n` tokens. None as long as nothing is known.
    fn of(&self, n: usize) -> Option<f64> {
        let known = |m: usize| Some((m, (*self.seconds.get(m)?)?));
        let (m, below) = (1..=n).rev().find_map(known)?;
        let above = (n..self.seconds.len()).find_map(known);
        let each = match above {
            Some((h, _)) if h == m => 0.0,
            Some((h, above)) => (above - below) / (h - m) as f64,
            None => self.of_many,
        };
        Some(below + each * (n - m) as f64)
    }
}

/// Drafts for one answer.
pub struct Drafter {
    /// Most tokens of a draft.
    most: usize,
    /// How often a drafted token came, if all before it had come, by how long the match was; of a draft model at last.
    rates: [f64; 4],
    /// That of the draft that is being computed.
    class: usize,
    /// Seconds that drafts lost; negative where they gained.
    lost: f64,
    /// Seconds of the answer so far.
    spent: f64,
    /// Tokens drafted, and those of them that came.
    pub drafted: usize,
    pub accepted: usize,
}

/// Until something is known.
const RATES: [f64; 4] = [0.3, 0.5, 0.8, 0.7];

/// The class of a draft model.
const OF_MODEL: usize = 3;

/// What a draft model has to read first may take this share of what it would have saved of the answer so far.
const MAY_INVEST: f64 = 0.25;

/// The best that a draft can do.
struct Best {
    /// Tokens of the draft; none where it does not pay.
    n: usize,
    /// Seconds that each token of the answer is expected to take less.
    saves: f64,
}

impl Drafter {
    /// With at most `most` tokens in a draft.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.min(MOST_DRAFTED),
            rates: RATES,
            class: 0,
            lost: 0.0,
            spent: 0.0,
            drafted: 0,
            accepted: 0,
        }
    }

    /// What may follow `tokens`, of which the last `pending` are to be computed now: at most `room` tokens.
    pub fn draft(
        &mut self,
        tokens: &[Token],
        pending: usize,
        room: usize,
        costs: &Costs,
    ) -> Vec<Token> {
        let most = self.room(pending, room);
        let Some((at, matched)) = last_seen(tokens).filter(|_| most > 0) else {
            return Vec::new();
        };
        let class = match matched {
            ..=2 => 0,
            3..=4 => 1,
            _ => 2,
        };
        let most = most.min(tokens.len() - at);
        let n = self.best(class, most, pending, costs, 0.0).n;
        tokens[at..at + n].to_vec()
    }

    /// How many tokens of a draft model are worth their time, where it takes `each` seconds for one, and has to read
    /// for `behind` seconds first. The answer has `said` tokens so far.
    pub fn of_model(
        &mut self,
        pending: usize,
        room: usize,
        costs: &Costs,
        each: f64,
        behind: f64,
        said: usize,
    ) -> usize {
        let most = self.room(pending, room);
        let Best { n, saves } = self.best(OF_MODEL, most, pending, costs, each);
        let invest = MAY_INVEST * saves * said as f64;
        let may_lose = costs.of(pending).unwrap_or(0.0) + MAY_LOSE * self.spent - self.lost;
        match behind <= may_lose.max(invest) {
            true => n,
            false => 0,
        }
    }

    /// A draft model took so long for its draft, or to find that it is not sure of any.
    pub fn drafted_in(&mut self, took: Duration) {
        self.spent += took.as_secs_f64();
        self.lost += took.as_secs_f64();
    }

    /// Most tokens of a draft after `pending`, of which at most `room` can be of use.
    fn room(&self, pending: usize, room: usize) -> usize {
        let batch = MOST_DRAFTED + 1 - pending.min(MOST_DRAFTED + 1);
        self.most.min(room).min(batch)
    }

    /// The best of the drafts with at most `most` tokens, each of which takes `each` seconds to find.
    fn best(
        &mut self,
        class: usize,
        most: usize,
        pending: usize,
        costs: &Costs,
        each: f64,
    ) -> Best {
        let mut best = Best { n: 0, saves: 0.0 };
        let Some(step) = costs.of(pending) else {
            return best;
        };
        let rate = self.rates[class];
        let may_lose = MAY_LOSE * self.spent + step - self.lost;
        let mut fastest = PAYS / step;
        let mut expected = 1.0;
        for n in 1..=most {
            expected += rate.powi(n as i32);
            let cost = costs.of(pending + n).map(|c| c + n as f64 * each);
            let Some(cost) = cost.filter(|c| c - step <= may_lose) else {
                break;
            };
            if expected / cost > fastest {
                fastest = expected / cost;
                best = Best {
                    n,
                    saves: step - cost / expected,
                };
            }
        }
        if best.n == 0 {
            // What is not tried is forgotten, slowly.
            self.rates[class] += 0.01 * (RATES[class] - rate);
        }
        self.class = class;
        best
    }

    /// Of a draft of `drafted` tokens, or of none, `accepted` came; the batch, with `pending` others, took so long.
    pub fn outcome(
        &mut self,
        pending: usize,
        drafted: usize,
        accepted: usize,
        took: Duration,
        costs: &Costs,
    ) {
        let took = took.as_secs_f64();
        self.spent += took;
        if drafted == 0 {
            return;
        }
        self.drafted += drafted;
        self.accepted += accepted;
        for came in (0..drafted.min(accepted + 1)).map(|i| i < accepted) {
            let rate = &mut self.rates[self.class];
            *rate += 0.1 * (f64::from(u8::from(came)) - *rate);
        }
        if let (Some(step), Some(one)) = (costs.of(pending), costs.of(1)) {
            let without = step + one * accepted as f64;
            // Another program that takes the cores for a moment is not the draft's fault.
            let took = took.min(2.0 * costs.of(pending + drafted).unwrap_or(took));
            // What was gained long ago does not excuse a loss.
            self.lost = (self.lost + took - without).max(-4.0 * one);
        }
    }
}

/// Where what followed the last tokens begins, the last time that the most of them came in this order; and
/// how many of them did. None when too few did.
fn last_seen(tokens: &[Token]) -> Option<(usize, usize)> {
    let (last, before) = tokens.split_last()?;
    let mut best = (0, 0);
    for end in (0..before.len()).rev() {
        if before[end] != *last {
            continue;
        }
        let pairs = before[..end].iter().rev().zip(before.iter().rev());
        let same = 1 + pairs
            .take(MATCH.end() - 1)
            .take_while(|(a, b)| a == b)
            .count();
        if same > best.1 {
            best = (end + 1, same);
            if same == *MATCH.end() {
                break;
            }
        }
    }
    (best.1 >= *MATCH.start()).then_some(best)
}

#[cfg(test)]
mod tests;
