//! Whether a sensor can be believed.
//!
//! A die rises by degrees within seconds when the processor works at full speed: a sensor on it that does not move
//! then, or falls, measures something else. No chip gets warmer by [`JUMP`] between two readings. What reads wrong in
//! any other way cannot be told from what is so with one sensor alone: that takes a second one, or the SoC's own word.

use super::Sample;
use crate::device::Fault;
use crate::units::{Celsius, Millis};

/// What is no temperature of a running box.
const PLAUSIBLE: core::ops::RangeInclusive<f32> = -30.0..=130.0;
/// Between two readings within [`JUMP_WITHIN`].
const JUMP: f32 = 40.0;
const JUMP_WITHIN: Millis = Millis::seconds(5);
/// How long readings have to be good until they are believed again.
const GOOD_FOR: Millis = Millis::seconds(10);
/// A reading has moved when it differs by so much.
const MOVED: f32 = 0.3;
/// So much work at full speed has to move a sensor on the die.
const WORK_MOVES: Millis = Millis::seconds(20);
/// A box that has worked for a while may well stay at one temperature.
const RESTED: Millis = Millis::seconds(60);
/// Over how long a rise is measured.
const SLOPE_OVER: Millis = Millis(2500);

/// Why a sensor is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It does not answer.
    Silent(Fault),
    /// It says what no board can be.
    Implausible,
    /// It changes faster than anything can.
    Jumps,
    /// It does not move, though the engine works.
    Stuck,
    /// It falls, though the engine works.
    Falls,
    /// The SoC slows down because of heat that it does not see.
    Contradicted,
    /// It was doubted just now, and has to be good for a while.
    NotYet,
}

impl Doubt {
    /// One word, for `/api/events`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent(fault) => fault.name(),
            Self::Implausible => "implausible",
            Self::Jumps => "jumps",
            Self::Stuck => "stuck",
            Self::Falls => "falls",
            Self::Contradicted => "contradicted",
            Self::NotYet => "recovering",
        }
    }
}

/// What is remembered of one sensor.
#[derive(Clone, Debug)]
pub(super) struct Track {
    last: Option<(Millis, Celsius)>,
    /// Where the present slope began, and the one before.
    slope_from: Option<(Millis, Celsius)>,
    rising: f32,
    /// Since when its readings are good, after they were not.
    good_since: Option<Millis>,
    doubted: bool,
    work: Work,
}

/// How the sensor follows the engine's work.
#[derive(Clone, Debug)]
struct Work {
    at: Millis,
    working: bool,
    rests_since: Millis,
    /// The reading that has not been left since, and work at full speed meanwhile.
    unmoved: Option<Celsius>,
    worked: Millis,
    /// Whether work began meanwhile, after a rest.
    began: bool,
    /// When work began after a rest, and the reading then.
    from: Option<(Millis, Celsius)>,
    verdict: Option<Doubt>,
}

impl Track {
    pub(super) const fn new() -> Self {
        Self {
            last: None,
            slope_from: None,
            rising: 0.0,
            good_since: None,
            doubted: false,
            work: Work {
                at: Millis(0),
                working: false,
                rests_since: Millis(0),
                unmoved: None,
                worked: Millis(0),
                began: false,
                from: None,
                verdict: None,
            },
        }
    }

    /// Takes a reading, and whether the engine works at full speed; says why it is not to be believed.
    pub(super) fn update(
        &mut self,
        now: Millis,
        sample: &Sample,
        full_speed: bool,
    ) -> Option<Doubt> {
        let doubt = self.look(now, sample, full_speed);
        match doubt {
            Some(_) => {
                self.doubted = true;
                self.good_since = None;
                self.slope_from = None;
                self.rising = 0.0;
            }
            None if self.doubted => {
                let since = *self.good_since.get_or_insert(now);
                if now.since(since) < GOOD_FOR {
                    return Some(Doubt::NotYet);
                }
                self.doubted = false;
            }
            None => {}
        }
        doubt
    }

    /// The last reading, and how fast it rises in °C a second.
    pub(super) fn rate(&self) -> Option<(Celsius, f32)> {
        self.last.map(|(_, reading)| (reading, self.rising))
    }

    fn look(&mut self, now: Millis, sample: &Sample, full_speed: bool) -> Option<Doubt> {
        let reading = match sample.reading {
            Ok(reading) => reading,
            Err(fault) => {
                self.last = None;
                return Some(Doubt::Silent(fault));
            }
        };
        // NaN is in no range.
        if !PLAUSIBLE.contains(&reading.0) {
            self.last = None;
            return Some(Doubt::Implausible);
        }
        let before = self.last.replace((now, reading));
        if let Some((then, before)) = before
            && now.since(then) <= JUMP_WITHIN
            && (reading.0 - before.0).abs() > JUMP
        {
            return Some(Doubt::Jumps);
        }
        self.follow_slope(now, reading);
        if sample.on_die {
            self.work.follow(now, reading, full_speed)
        } else {
            None
        }
    }

    fn follow_slope(&mut self, now: Millis, reading: Celsius) {
        match self.slope_from {
            Some((then, from)) if now.since(then) >= SLOPE_OVER => {
                self.rising = (reading.0 - from.0) / now.since(then).as_seconds();
                self.slope_from = Some((now, reading));
            }
            None => self.slope_from = Some((now, reading)),
            Some(_) => {}
        }
    }
}

impl Work {
    fn follow(&mut self, now: Millis, reading: Celsius, working: bool) -> Option<Doubt> {
        let span = now.since(self.at);
        self.at = now;
        if self
            .unmoved
            .is_none_or(|unmoved| (unmoved.0 - reading.0).abs() >= MOVED)
        {
            self.unmoved = Some(reading);
            (self.worked, self.began) = (Millis(0), false);
            if self.verdict == Some(Doubt::Stuck) {
                self.verdict = None;
            }
        }
        if working && !self.working {
            self.began = true;
            let rested = now.since(self.rests_since) >= RESTED;
            self.from = rested.then_some((now, reading));
        }
        if !working {
            if self.working {
                self.rests_since = now;
            }
            self.from = None;
        } else if self.working {
            self.worked = self.worked + span;
        }
        self.working = working;
        if self.began && self.worked >= WORK_MOVES {
            self.verdict = Some(Doubt::Stuck);
        }
        if let Some((since, from)) = self.from
            && now.since(since) >= WORK_MOVES
        {
            if reading.0 < from.0 - MOVED {
                self.verdict = Some(Doubt::Falls);
            } else if self.verdict == Some(Doubt::Falls) {
                self.verdict = None;
            }
            self.from = None;
        }
        self.verdict
    }
}
