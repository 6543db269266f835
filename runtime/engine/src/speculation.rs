//! Speculation: tokens that may come next are computed together with the last one, and those that then come
//! are had for little more.
//!
//! In: the prompt and the answer so far, what batches of each size take on this machine, and what has come of
//! drafts. Out: a draft, none where it does not pay. The sampler draws each token from the model's own logits as
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
    /// How often a drafted token came, if all before it had come, by how long the match was.
    rates: [f64; 3],
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
const RATES: [f64; 3] = [0.3, 0.5, 0.8];

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
        let most = self
            .most
            .min(room)
            .min(MOST_DRAFTED + 1 - pending.min(MOST_DRAFTED + 1));
        let (Some(step), true) = (costs.of(pending), most > 0) else {
            return Vec::new();
        };
        let Some((at, matched)) = last_seen(tokens) else {
            return Vec::new();
        };
        let class = match matched {
            ..=2 => 0,
            3..=4 => 1,
            _ => 2,
        };
        let rate = self.rates[class];
        let may_lose = MAY_LOSE * self.spent + step - self.lost;
        let mut best = (PAYS / step, 0);
        let mut expected = 1.0;
        for n in 1..=most.min(tokens.len() - at) {
            expected += rate.powi(n as i32);
            let Some(cost) = costs.of(pending + n).filter(|c| c - step <= may_lose) else {
                break;
            };
            if expected / cost > best.0 {
                best = (expected / cost, n);
            }
        }
        if best.1 == 0 {
            // What is not tried is forgotten, slowly.
            self.rates[class] += 0.01 * (RATES[class] - rate);
        }
        self.class = class;
        tokens[at..at + best.1].to_vec()
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
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn costs(one: u32, more: u32) -> Costs {
        let mut costs = Costs::default();
        for n in 1..=MOST_DRAFTED + 1 {
            costs.measured(n, (one + more * (n as u32 - 1)) * MS);
        }
        costs
    }

    #[test]
    fn the_longest_match_counts_and_of_equals_the_last() {
        assert_eq!(last_seen(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3]), Some((3, 3)));
        assert_eq!(last_seen(&[2, 3, 9, 2, 3, 8, 2, 3]), Some((5, 2)));
        assert_eq!(last_seen(&[5, 5, 5, 5]), Some((3, 3)));
        assert_eq!(last_seen(&[1, 2, 3, 1]), None);
        assert_eq!(last_seen(&[]), None);
    }

    #[test]
    fn costs_that_were_not_measured_lie_between_those_that_were() {
        let mut costs = Costs::default();
        assert_eq!(costs.of(1), None);
        costs.measured(100, 200 * MS);
        costs.measured(1, 10 * MS);
        assert!((costs.of(4).unwrap() - 0.016).abs() < 1e-9);
        costs.measured(5, 30 * MS);
        assert!((costs.of(3).unwrap() - 0.02).abs() < 1e-9);
    }

    /// Seconds of an answer of `n` tokens, of which each drafted one comes with `chance` in 100, and without drafts.
    fn answer(n: usize, chance: u64, costs: &Costs, wrong_by: f64) -> (f64, f64) {
        let mut drafter = Drafter::new(MOST_DRAFTED);
        // It says the same ten words again and again, so that there is always a match.
        let tokens: Vec<Token> = (0..40).map(|i| i % 10).collect();
        let (mut spent, mut said, mut random) = (0.0, 0, 1u64);
        while said < n {
            let drafted = drafter.draft(&tokens, 1, n, costs).len();
            let mut comes = || {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (random >> 33) % 100 < chance
            };
            let accepted = (0..drafted).take_while(|_| comes()).count();
            let mut took = costs.of(1 + drafted).unwrap();
            if drafted > 0 {
                took *= wrong_by;
            }
            drafter.outcome(1, drafted, accepted, Duration::from_secs_f64(took), costs);
            spent += took;
            said += 1 + accepted;
        }
        (spent, said as f64 * costs.of(1).unwrap())
    }

    #[test]
    fn drafts_that_come_are_long_and_those_that_do_not_cost_little() {
        let memory_bound = costs(30, 4);
        let (with, without) = answer(300, 98, &memory_bound, 1.0);
        assert!(without / with > 2.5, "{with} {without}");
        for chance in [0, 5, 10, 20, 30, 50, 70] {
            for more in [0, 4, 10, 20, 30] {
                let (with, without) = answer(300, chance, &costs(30, more), 1.0);
                assert!(
                    without / with > 0.97,
                    "{chance} % {more} ms: {with} {without}"
                );
            }
        }
    }

    #[test]
    fn what_batches_are_thought_to_take_may_be_wrong() {
        let (with, without) = answer(300, 30, &costs(30, 1), 1.8);
        assert!(without / with > 0.97, "{with} {without}");
    }

    #[test]
    fn no_more_is_drafted_than_may_be() {
        let tokens: Vec<Token> = (0..40).map(|i| i % 10).collect();
        let costs = costs(30, 0);
        assert_eq!(Drafter::new(3).draft(&tokens, 1, 9, &costs), [0, 1, 2]);
        assert_eq!(Drafter::new(9).draft(&tokens, 1, 2, &costs), [0, 1]);
        assert!(Drafter::new(0).draft(&tokens, 1, 9, &costs).is_empty());
        assert!(Drafter::new(9).draft(&tokens, 1, 0, &costs).is_empty());
        assert_eq!(Drafter::new(99).draft(&tokens, 16, 99, &costs).len(), 0);
    }
}
