//! Speculation: tokens that may come next are computed together with the last one, and those that then come
//! are had for little more.
//!
//! In: the prompt and the answer so far, what batches of each size take on this machine, and what has come of
//! drafts. Out: a draft of what came after the same tokens before, or how many tokens of a draft model are worth their
//! time; none where none pays. The sampler draws each token from the model's own logits as
//! it would without; a draft only says which logits are worth computing ahead. Must never cost more than it may
//! lose: a small share of the time that the answer takes.

use std::time::Duration;

pub use costs::Costs;

use crate::llama::Token;

/// Most tokens of a draft. Each asks for logits, which take memory.
pub const MOST_DRAFTED: usize = 15;

/// Tokens that must have come before in the same order for what followed them to be a draft, and how many are
/// looked at.
const MATCH: std::ops::RangeInclusive<usize> = 2..=12;

/// Share of the time of an answer that drafts from the text may lose, beside one step of it; and those of a draft model.
const MAY_LOSE: f64 = 0.01;

/// A draft must promise to be faster by this factor.
const PAYS: f64 = 1.03;

/// How often a drafted token comes, if all before it have come: at first, and by what came of those so far.
struct Rate {
    at_first: f64,
    now: f64,
}

impl Rate {
    fn new(at_first: f64) -> Self {
        let now = at_first;
        Self { at_first, now }
    }

    /// Of a draft of `drafted` tokens, `accepted` came.
    fn learn(&mut self, drafted: usize, accepted: usize) {
        for came in (0..drafted.min(accepted + 1)).map(|i| i < accepted) {
            self.now += 0.1 * (f64::from(u8::from(came)) - self.now);
        }
    }

    /// What is not tried is forgotten, slowly.
    fn forget(&mut self) {
        self.now += 0.01 * (self.at_first - self.now);
    }
}

/// The best that drafts of one kind can do now.
#[derive(Default)]
pub struct Best {
    /// Tokens of the draft; none where it does not pay.
    pub n: usize,
    /// Seconds that each token of the answer is expected to take less.
    pub saves: f64,
}

/// What a draft may have, and what it is computed with.
pub struct Chance<'a> {
    /// Tokens that are to be computed now in any case.
    pub pending: usize,
    /// Most tokens that can be of use.
    pub room: usize,
    pub costs: &'a Costs,
}

impl Chance<'_> {
    /// The best of the drafts with at most `most` tokens, each of which takes `each` seconds to find, and that may lose
    /// `credit` seconds beside a step.
    fn best(&self, rate: &mut Rate, most: usize, each: f64, credit: f64) -> Best {
        let mut best = Best::default();
        let Some(step) = self.costs.of(self.pending) else {
            return best;
        };
        let mut fastest = PAYS / step;
        let mut expected = 1.0;
        for n in 1..=most {
            expected += rate.now.powi(n as i32);
            let cost = self.costs.of(self.pending + n);
            let cost = cost.map(|c| c + n as f64 * each);
            let Some(cost) = cost.filter(|c| c - step <= step + credit) else {
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
            rate.forget();
        }
        best
    }
}

/// A batch that was computed: `drafted` tokens behind `pending` others, of which `accepted` came.
pub struct Outcome {
    pub pending: usize,
    pub drafted: usize,
    pub accepted: usize,
    pub took: Duration,
}

impl Outcome {
    /// Seconds that it took longer than without the draft; negative where it took less.
    fn lost(&self, costs: &Costs) -> f64 {
        let (Some(step), Some(one)) = (costs.of(self.pending), costs.of(1)) else {
            return 0.0;
        };
        // Another program that takes the cores for a moment is not the draft's fault.
        let known = costs.of(self.pending + self.drafted);
        let took = self.took.as_secs_f64();
        let took = known.map_or(took, |known| took.min(2.0 * known));
        took - (step + one * self.accepted as f64)
    }

    /// What drafts may lose after it, who had `credit` before; at most `most_steps` steps.
    fn credit(&self, credit: f64, lost: f64, costs: &Costs, most_steps: f64) -> f64 {
        let most = most_steps * costs.of(1).unwrap_or(0.0);
        (credit + MAY_LOSE * self.took.as_secs_f64() - lost).min(most)
    }
}

/// What came of the drafts of a draft model, in all answers: it is as good in one as in another.
pub struct ModelRecord {
    rate: Rate,
    /// Seconds that its drafts may lose; none as long as nobody knows what a step takes.
    credit: Option<f64>,
}

/// Steps of an answer that a draft model may lose at first, and when it has gained much.
const MODEL_MAY_LOSE: f64 = 4.0;

impl Default for ModelRecord {
    fn default() -> Self {
        Self {
            rate: Rate::new(0.7),
            credit: None,
        }
    }
}

impl ModelRecord {
    /// How many tokens of the draft model are worth their time, where it takes `each` seconds for one, and has to read
    /// for `behind` seconds first. The answer has `said` tokens so far.
    pub fn best(
        &mut self,
        chance: &Chance<'_>,
        most: usize,
        each: f64,
        behind: f64,
        said: usize,
    ) -> Best {
        let credit = self.credit(chance.costs);
        let best = chance.best(&mut self.rate, most, each, credit);
        let invest = MAY_INVEST * best.saves * said as f64;
        match behind <= self.may_lose(chance).max(invest) {
            true => best,
            false => Best::default(),
        }
    }

    /// It reads for `seconds` what came before. More than its drafts may lose is for all that the answer still gains.
    pub fn reads(&mut self, seconds: f64, chance: &Chance<'_>) {
        if seconds <= self.may_lose(chance) {
            self.credit = Some(self.credit(chance.costs) - seconds);
        }
    }

    fn credit(&self, costs: &Costs) -> f64 {
        let at_first = || MODEL_MAY_LOSE * costs.of(1).unwrap_or(0.0);
        self.credit.unwrap_or_else(at_first)
    }

    fn may_lose(&self, chance: &Chance<'_>) -> f64 {
        chance.costs.of(chance.pending).unwrap_or(0.0) + self.credit(chance.costs)
    }

    /// It took so long for a draft, or to find that it is not sure of any.
    pub fn drafted_in(&mut self, took: Duration, costs: &Costs) {
        self.credit = Some(self.credit(costs) - took.as_secs_f64());
    }

    /// A batch was computed; its draft, if there was one, was the draft model's or not.
    fn outcome(&mut self, outcome: &Outcome, costs: &Costs, its_draft: bool) {
        let mut lost = 0.0;
        if its_draft {
            self.rate.learn(outcome.drafted, outcome.accepted);
            lost = outcome.lost(costs);
        }
        // What it gained in one answer does not excuse a loss in another.
        let credit = self.credit(costs);
        self.credit = Some(outcome.credit(credit, lost, costs, MODEL_MAY_LOSE));
    }
}

/// What a draft model has to read first may take this share of what it would have saved of the answer so far.
const MAY_INVEST: f64 = 0.25;

/// Drafts for one answer.
pub struct Drafter {
    /// Most tokens of a draft.
    most: usize,
    /// By how long the match was.
    rates: [Rate; 3],
    /// The index in `rates` of the draft that is being computed; none if it is a draft model's.
    class: Option<usize>,
    /// Seconds that drafts from the text may lose.
    credit: f64,
    /// Tokens drafted, and those of them that came.
    pub drafted: usize,
    pub accepted: usize,
}

impl Drafter {
    /// With at most `most` tokens in a draft.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.min(MOST_DRAFTED),
            rates: [0.3, 0.5, 0.8].map(Rate::new),
            class: None,
            credit: 0.0,
            drafted: 0,
            accepted: 0,
        }
    }

    /// What may follow `tokens`, and the seconds that each token of the answer is expected to take less with it.
    pub fn look_up<'t>(&mut self, tokens: &'t [Token], chance: &Chance<'_>) -> (&'t [Token], f64) {
        self.class = None;
        let most = self.most(chance);
        let Some((at, matched)) = last_seen(tokens).filter(|_| most > 0) else {
            return (&[], 0.0);
        };
        let class = match matched {
            ..=2 => 0,
            3..=4 => 1,
            _ => 2,
        };
        let most = most.min(tokens.len() - at);
        let Best { n, saves } = chance.best(&mut self.rates[class], most, 0.0, self.credit);
        self.class = Some(class);
        (&tokens[at..at + n], saves)
    }

    /// The draft that is computed is not from the text.
    pub fn is_of_model(&mut self) {
        self.class = None;
    }

    /// Most tokens of a draft.
    pub fn most(&self, chance: &Chance<'_>) -> usize {
        let batch = (MOST_DRAFTED + 1).saturating_sub(chance.pending);
        self.most.min(chance.room).min(batch)
    }

    /// A batch was computed, with a draft or without one.
    pub fn outcome(&mut self, outcome: &Outcome, costs: &Costs, model: Option<&mut ModelRecord>) {
        let has_draft = outcome.drafted > 0;
        self.drafted += outcome.drafted;
        self.accepted += outcome.accepted;
        let class = self.class.filter(|_| has_draft);
        let mut lost = 0.0;
        if let Some(class) = class {
            self.rates[class].learn(outcome.drafted, outcome.accepted);
            lost = outcome.lost(costs);
        }
        // What was gained long ago does not excuse a loss.
        self.credit = outcome.credit(self.credit, lost, costs, 4.0);
        if let Some(model) = model {
            model.outcome(outcome, costs, has_draft && class.is_none());
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

mod costs;
#[cfg(test)]
mod tests;
