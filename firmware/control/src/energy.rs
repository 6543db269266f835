//! What the box takes: joules for each token, watt-hours of the last day and in all.
//!
//! In: power as it is measured, and the count of tokens that `serve` has generated. Out: these figures, where there
//! was enough to measure. Time in which nobody measured counts for nothing, rather than being guessed.

use crate::device::Fault;
use crate::units::{Joules, JoulesPerToken, Millis, WattHours, Watts};

/// A reading speaks for no longer than this.
const SPEAKS_FOR: Millis = Millis::seconds(15);
const HOUR: Millis = Millis::seconds(3600);
const HOURS: usize = 24;
/// Fewer tokens say nothing about what one costs.
const ENOUGH_TOKENS: u64 = 16;

/// Watts that a box can take.
const PLAUSIBLE: core::ops::RangeInclusive<f32> = 0.0..=2000.0;

/// A reading that can be true: one that cannot would falsify a day.
pub(crate) fn plausible(power: Watts) -> Result<Watts, Fault> {
    match PLAUSIBLE.contains(&power.0) {
        true => Ok(power),
        false => Err(Fault::Nonsense),
    }
}

/// The account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    measured: Option<(Millis, Watts)>,
    accounted: Millis,
    all: Joules,
    /// Of each hour of the last day, the running one at its number modulo 24.
    hours: [Joules; HOURS],
    hour: u64,
    work: Work,
    tokens_before: Option<u64>,
}

/// Since the box began to work, and of the last time that it did.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    running: bool,
    joules: f64,
    tokens: u64,
    done: Option<JoulesPerToken>,
}

impl Account {
    /// Takes a reading: the power, whether the box works on an answer, and how many tokens it has generated since its
    /// start, where these are known.
    pub fn update(
        &mut self,
        now: Millis,
        power: Option<Watts>,
        working: bool,
        tokens: Option<u64>,
    ) {
        let span = now.since(self.accounted);
        self.accounted = now;
        let joules = match self.measured {
            Some((then, watts)) if now.since(then) <= SPEAKS_FOR => {
                // Between two readings the mean of both.
                let mean = (watts.0 + power.unwrap_or(watts).0) / 2.0;
                f64::from(mean) * f64::from(span.as_seconds())
            }
            _ => 0.0,
        };
        if let Some(watts) = power {
            self.measured = Some((now, watts));
        }
        self.enter_hour(now);
        self.hours[(self.hour % HOURS as u64) as usize].0 += joules;
        self.all.0 += joules;
        self.count(working, joules, tokens);
    }

    fn enter_hour(&mut self, now: Millis) {
        let hour = now.0 / HOUR.0;
        let passed = hour.saturating_sub(self.hour).min(HOURS as u64);
        for n in 0..passed {
            self.hours[((hour - n) % HOURS as u64) as usize] = Joules(0.0);
        }
        self.hour = self.hour.max(hour);
    }

    fn count(&mut self, working: bool, joules: f64, tokens: Option<u64>) {
        // A count that falls is that of a serve that was started again.
        let more = match (self.tokens_before, tokens) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => 0,
        };
        self.tokens_before = tokens.or(self.tokens_before);
        let work = &mut self.work;
        if working && !work.running {
            (work.joules, work.tokens) = (0.0, 0);
        }
        // The last tokens of an answer are counted with its end.
        if working || work.running {
            work.joules += joules;
            work.tokens += more;
            if work.tokens >= ENOUGH_TOKENS && work.joules > 0.0 {
                work.done = Some(JoulesPerToken(work.joules / work.tokens as f64));
            }
        }
        work.running = working;
    }

    /// What a token took, all that the board takes included, of the answers that were given last without a pause.
    pub fn per_token(&self) -> Option<JoulesPerToken> {
        self.work.done
    }

    /// Since the panel's start, and within the last day: the running hour and the 23 before.
    pub fn last_day(&self) -> Option<WattHours> {
        let joules: f64 = self.hours.iter().map(|hour| hour.0).sum();
        (joules > 0.0).then_some(WattHours(joules / 3600.0))
    }

    /// Since the panel's start; never less than before.
    pub fn total(&self) -> Option<WattHours> {
        self.measured.map(|_| WattHours(self.all.0 / 3600.0))
    }
}
