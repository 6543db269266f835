//! Whether a sensor can be believed.
//!
//! A die rises by degrees within seconds when the processor begins to work: a sensor on it that does not move
//! then, or falls, measures something else. No chip gets warmer by [`JUMP`] between two readings, nor a die by
//! [`STEADY_JUMP`] while the engine goes on with what it did. What reads wrong in
//! any other way, or begins to fall in the middle of work, cannot be told from what is so with one sensor alone: that
//! takes a second one, or the SoC's own word.
//! A die that is hot cools when the engine is slowed: one that then stays as it is for minutes is stuck, too. Under steady
//! work only what has shown fine steps has to move: many a sensor has whole degrees.

use super::Sample;
use crate::device::Fault;
use crate::units::{Celsius, Millis};

/// What is no temperature of a running box.
const PLAUSIBLE: core::ops::RangeInclusive<f32> = -30.0..=130.0;
/// Between two readings within [`JUMP_WITHIN`].
const JUMP: f32 = 40.0;
const JUMP_WITHIN: Millis = Millis::seconds(5);
const STEADY_JUMP: f32 = 20.0;
/// How long readings have to be good until they are believed again.
const GOOD_FOR: Millis = Millis::seconds(10);
/// After a jump that takes readings as near as [`NEAR`] to where it began, or so long.
const JUMP_LASTS: Millis = Millis::seconds(300);
/// After a fall in the middle of work: the die goes on being heated, and may be as hot as it was.
const FALL_LASTS: Millis = Millis::seconds(3600);
const NEAR: f32 = 20.0;
/// A reading has moved when it differs by so much.
const MOVED: f32 = 0.3;
/// So much work has to move a sensor on the die.
const WORK_MOVES: Millis = Millis::seconds(20);
/// Under steady work noise alone moves one with steps below [`MOVED`] within this time.
const NOISE_MOVES: Millis = Millis::seconds(90);
/// In a rest of so long a die cools, and rises when work begins.
const COOLED: Millis = Millis::seconds(10);
/// One that fell under work rises with it again by so much, which no noise does, within so much work.
const RISEN: f32 = 1.0;
const RISES_WITHIN: Millis = Millis::seconds(60);
/// So much work without a rest, and the engine is slowed for a moment, so that one that fell can rise with it.
const TRIED_AFTER: Millis = Millis::seconds(600);
/// With the engine slowed to a quarter or less, because of heat, it falls within this time.
const COOLING_MOVES: Millis = Millis::seconds(180);
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
    /// Where the present slope began.
    slope_from: Option<(Millis, Celsius)>,
    rising: f32,
    /// Since when its readings are good, after they were not.
    good_since: Option<Millis>,
    doubted: bool,
    /// The last reading before a jump, and until when it counts.
    jumped: Option<(Millis, Celsius)>,
    work: Work,
}

/// How the sensor follows the engine's work.
#[derive(Clone, Debug)]
struct Work {
    at: Millis,
    load: Load,
    rests_since: Millis,
    slowed_since: Millis,
    /// The reading that has not been left since, and the work that was done meanwhile.
    unmoved: Option<Celsius>,
    worked: Millis,
    /// The last reading, and the work since it was another one.
    same: Option<Celsius>,
    worked_at_same: Millis,
    /// Whether it has shown steps below [`MOVED`].
    fine: bool,
    /// For how long the engine was slowed meanwhile because of its heat, and whether that was long enough to tell.
    slowed: Millis,
    stays: bool,
    /// Whether work began meanwhile, after a rest.
    began: bool,
    /// The reading when work began after a long rest, and the work since.
    from: Option<(Celsius, Millis)>,
    /// Whether it was lower under work than at rest, when that was looked at last, as it is whenever work begins after a
    /// rest; nothing else tells. With the work since it could have risen.
    falls: Option<Millis>,
    /// The reading when work began or became more after a while, from where one that falls has to rise, and the work since.
    rises_from: Option<(Celsius, Millis)>,
}

/// How much the engine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Nothing.
    Rest,
    /// Enough to warm the die.
    Full,
    /// Too little for that to be sure.
    Slowed,
}

impl Track {
    pub(super) const fn new() -> Self {
        Self {
            last: None,
            slope_from: None,
            rising: 0.0,
            good_since: None,
            doubted: false,
            jumped: None,
            work: Work {
                at: Millis(0),
                load: Load::Rest,
                rests_since: Millis(0),
                slowed_since: Millis(0),
                unmoved: None,
                worked: Millis(0),
                same: None,
                worked_at_same: Millis(0),
                fine: false,
                slowed: Millis(0),
                stays: false,
                began: false,
                from: None,
                falls: None,
                rises_from: None,
            },
        }
    }

    /// Takes a reading, how much the engine computes, and whether it is slowed to a quarter or less because this
    /// reading is hot; says why that is not to be believed.
    pub(super) fn update(
        &mut self,
        now: Millis,
        sample: &Sample,
        load: Load,
        slowed: bool,
    ) -> Option<Doubt> {
        let doubt = self.look(now, sample, load, slowed);
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

    /// Whether less work for a moment would show that it can be believed.
    pub(super) fn is_to_be_tried(&self) -> bool {
        let falls = self.work.falls;
        falls.is_some_and(|worked| worked >= TRIED_AFTER)
    }

    /// The last reading, and how fast it rises in °C a second.
    pub(super) fn rate(&self) -> Option<(Celsius, f32)> {
        self.last.map(|(_, reading)| (reading, self.rising))
    }

    fn look(&mut self, now: Millis, sample: &Sample, load: Load, slowed: bool) -> Option<Doubt> {
        let reading = match sample.reading {
            Ok(reading) => reading,
            Err(fault) => {
                self.work.lose(now, load);
                return Some(Doubt::Silent(fault));
            }
        };
        // NaN is in no range.
        if !PLAUSIBLE.contains(&reading.0) {
            self.work.lose(now, load);
            return Some(Doubt::Implausible);
        }
        let before = self.last.replace((now, reading));
        let steady = sample.on_die && load == self.work.load && load != Load::Slowed;
        let most = if steady { STEADY_JUMP } else { JUMP };
        if let Some((then, before)) = before
            && now.since(then) <= JUMP_WITHIN
            && (reading.0 - before.0).abs() > most
        {
            let falls = steady && load == Load::Full && reading < before;
            let lasts = if falls { FALL_LASTS } else { JUMP_LASTS };
            self.jumped.get_or_insert((then + lasts, before));
            self.work.lose(now, load);
            return Some(Doubt::Jumps);
        }
        if let Some((until, from)) = self.jumped {
            if now < until && (reading.0 - from.0).abs() > NEAR {
                self.work.lose(now, load);
                return Some(Doubt::Jumps);
            }
            self.jumped = None;
        }
        self.follow_slope(now, reading);
        if sample.on_die {
            self.work.follow(now, reading, load, slowed)
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
    fn follow(&mut self, now: Millis, reading: Celsius, load: Load, slowed: bool) -> Option<Doubt> {
        let span = now.since(self.at);
        self.at = now;
        let moved = |from: Celsius| (from.0 - reading.0).abs() >= MOVED;
        if self.unmoved.is_none_or(moved) {
            self.unmoved = Some(reading);
            (self.worked, self.slowed) = (Millis(0), Millis(0));
            (self.began, self.stays) = (false, false);
        }
        if let Some(before) = self.same.replace(reading)
            && before != reading
        {
            self.fine |= (before.0 - reading.0).abs() < MOVED;
            self.worked_at_same = Millis(0);
        }
        self.slowed = match slowed {
            true => self.slowed + span,
            false => Millis(0),
        };
        self.stays |= self.slowed >= COOLING_MOVES;
        match (self.load, load) {
            (Load::Rest, Load::Rest) => {}
            (Load::Rest, _) => {
                let rested = now.since(self.rests_since);
                if rested >= COOLED {
                    self.began = true;
                    self.may_rise(reading);
                }
                if rested >= RESTED {
                    self.from = Some((reading, Millis(0)));
                }
            }
            (_, Load::Rest) => self.rests_since = now,
            (Load::Full, _) => {
                self.worked = self.worked + span;
                self.worked_at_same = self.worked_at_same + span;
                let since = [
                    self.from.as_mut().map(|(_, worked)| worked),
                    self.rises_from.as_mut().map(|(_, worked)| worked),
                    self.falls.as_mut(),
                ];
                for worked in since.into_iter().flatten() {
                    *worked = *worked + span;
                }
                if load == Load::Slowed {
                    self.slowed_since = now;
                    self.falls = self.falls.map(|_| Millis(0));
                }
            }
            (Load::Slowed, Load::Full) if now.since(self.slowed_since) >= COOLED => {
                self.may_rise(reading);
                self.from = None;
            }
            (Load::Slowed, _) => self.from = None,
        }
        self.load = load;
        if let Some((from, worked)) = self.from
            && load == Load::Full
            && worked >= WORK_MOVES
        {
            self.falls = (reading.0 < from.0 - MOVED).then_some(Millis(0));
            // What it does from here on is the fan's doing, too.
            (self.from, self.rises_from) = (None, None);
        }
        if let Some((from, worked)) = self.rises_from
            && load != Load::Rest
        {
            if reading.0 >= from.0 + RISEN {
                self.falls = None;
            }
            if self.falls.is_none() || worked >= RISES_WITHIN {
                self.rises_from = None;
            }
        }
        let stuck = self.stays
            || (self.began && self.worked >= WORK_MOVES)
            || (self.fine && self.worked_at_same >= NOISE_MOVES);
        match (self.falls.is_some(), stuck) {
            (_, true) => Some(Doubt::Stuck),
            (true, _) => Some(Doubt::Falls),
            (false, false) => None,
        }
    }

    fn may_rise(&mut self, reading: Celsius) {
        self.rises_from = Some((reading, Millis(0)));
        self.falls = self.falls.map(|_| Millis(0));
    }

    /// There is no reading: what it follows from then on is not known.
    fn lose(&mut self, now: Millis, load: Load) {
        (self.at, self.load) = (now, load);
        (self.unmoved, self.same, self.from, self.rises_from) = (None, None, None, None);
    }
}
