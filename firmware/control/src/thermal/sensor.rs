//! Whether a sensor can be believed.
//!
//! No chip changes by [`JUMP`] between two readings, but a die when work begins or ends; nor does one by [`STEADY_JUMP`] while
//! the engine goes on with its work, nor gets colder by that while nobody saw it and the engine went on; and a die follows
//! the engine's work: `work`. At rest a die leaps with the work of others.
//! What reads wrong in any other way, or begins to fall in the middle of work, cannot be told from what is so with one
//! sensor alone: that takes a second one, or the SoC's own word.

mod work;

use super::Sample;
use crate::device::Fault;
use crate::units::{Celsius, Millis};
pub(super) use work::Load;
use work::Work;

/// What is a temperature of a running box, in °C.
pub const PLAUSIBLE: core::ops::RangeInclusive<f32> = -30.0..=130.0;
/// Between two readings within [`JUMP_WITHIN`].
const JUMP: f32 = 40.0;
const JUMP_WITHIN: Millis = Millis::seconds(5);
const STEADY_JUMP: f32 = 20.0;
/// How far a die leaps when work begins or ends, most of it within [`SETTLES`].
const LEAP: f32 = 70.0;
const SETTLES: Millis = Millis::seconds(5);
/// Work is heard of so much later than it shows, at most.
const TOLD_LATE: Millis = Millis(2500);
/// How long readings have to be good until they are believed again.
const GOOD_FOR: Millis = Millis::seconds(10);
/// After a jump that takes readings as near as [`NEAR`] to where it began, or so long.
const JUMP_LASTS: Millis = Millis::seconds(300);
/// After a fall in the middle of work: the die goes on being heated, and may be as hot as it was. One that has truly cooled so
/// far, as nobody saw it, is taken for a liar for as long: the box answers more slowly, and does not burn.
const FALL_LASTS: Millis = Millis::seconds(3600);
const NEAR: f32 = 20.0;
/// At rest no die cools faster than this, in °C a second, once its work has ended.
const COOLS: f32 = 1.5;
/// Over how long a rise is measured.
const SLOPE_OVER: Millis = Millis(2500);
/// More than noise, in °C.
const TURNED: f32 = 1.0;

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
    /// Until when a jump counts, and the last reading before it.
    jumped: Option<(Millis, Celsius)>,
    /// Whether the engine works, since when that is so, and a leap for which that is no reason: when, and whether up.
    works: bool,
    works_since: Option<Millis>,
    leapt: Option<(Millis, bool)>,
    /// The last reading that was not doubted.
    believed: Option<Believed>,
    /// Whether there was no reading since.
    missed: bool,
    work: Work,
}

/// A reading, and what the engine has done since.
#[derive(Clone, Copy, Debug)]
struct Believed {
    at: Millis,
    reading: Celsius,
    has_rested: bool,
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
            works: false,
            works_since: None,
            leapt: None,
            believed: None,
            missed: false,
            work: Work::NONE,
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
        if let Some(believed) = &mut self.believed {
            believed.has_rested |= load == Load::Rest;
        }
        self.hear(now, load != Load::Rest);
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
        if doubt.is_none()
            && let Ok(reading) = sample.reading
        {
            self.believed = Some(Believed {
                at: now,
                reading,
                has_rested: load == Load::Rest,
            });
        }
        doubt
    }

    /// Whether less work for a moment would show that it can be believed.
    pub(super) fn is_to_be_tried(&self) -> bool {
        self.work.is_to_be_tried()
    }

    /// The last reading, and how fast it rises in °C a second.
    pub(super) fn rate(&self) -> Option<(Celsius, f32)> {
        self.last.map(|(_, reading)| (reading, self.rising))
    }

    /// Takes whether the engine works. If that has just changed, it may be why the die leapt before.
    fn hear(&mut self, now: Millis, works: bool) {
        if works == self.works {
            return;
        }
        (self.works, self.works_since) = (works, Some(now));
        if let Some((at, rose)) = self.leapt.take()
            && now.since(at) <= TOLD_LATE
            && rose == works
        {
            (self.jumped, self.doubted) = (None, false);
        }
    }

    fn look(&mut self, now: Millis, sample: &Sample, load: Load, slowed: bool) -> Option<Doubt> {
        let reading = match sample.reading {
            Ok(reading) => reading,
            Err(fault) => {
                self.miss(now, load);
                return Some(Doubt::Silent(fault));
            }
        };
        // NaN is in no range.
        if !PLAUSIBLE.contains(&reading.0) {
            self.miss(now, load);
            return Some(Doubt::Implausible);
        }
        let before = self.last.replace((now, reading));
        let changes = self
            .works_since
            .is_some_and(|since| now.since(since) < SETTLES);
        let steady =
            sample.on_die && (load, self.work.load) == (Load::Full, Load::Full) && !changes;
        if let Some((then, before)) = before
            && now.since(then) <= JUMP_WITHIN
        {
            let rises = reading > before;
            let most = match () {
                () if steady => STEADY_JUMP,
                () if sample.on_die && changes && rises == self.works => LEAP,
                () => JUMP,
            };
            let leap = (reading.0 - before.0).abs();
            if leap > most {
                if sample.on_die && leap <= LEAP && !self.doubted {
                    self.leapt = Some((now, rises));
                }
                let falls = steady && !rises;
                let lasts = if falls { FALL_LASTS } else { JUMP_LASTS };
                return Some(self.jump(then + lasts, before, now, load));
            }
        }
        let missed = core::mem::take(&mut self.missed);
        if let Some(believed) = self.believed
            && missed
            && sample.on_die
            && self.jumped.is_none()
            && believed.reading.0 - reading.0 > believed.may_fall(now)
        {
            let works = !believed.has_rested;
            let lasts = if works { FALL_LASTS } else { JUMP_LASTS };
            return Some(self.jump(now + lasts, believed.reading, now, load));
        }
        if let Some((until, from)) = self.jumped {
            // Wherever it was meanwhile: so far below, under work, counts as long as a fall.
            let under = from.0 - reading.0;
            let until = match self.believed {
                Some(believed) if sample.on_die && under > NEAR && !believed.has_rested => {
                    until.max(believed.at + FALL_LASTS)
                }
                _ => until,
            };
            if now < until && under.abs() > NEAR {
                self.jumped = Some((until, from));
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

    /// There is no reading.
    fn miss(&mut self, now: Millis, load: Load) {
        self.missed = true;
        self.work.lose(now, load);
    }

    /// It has jumped from a reading, if there is none before it that was believed; that counts so long.
    fn jump(&mut self, until: Millis, from: Celsius, now: Millis, load: Load) -> Doubt {
        let from = self.believed.map_or(from, |believed| believed.reading);
        let (earlier, from) = self.jumped.unwrap_or((until, from));
        self.jumped = Some((until.max(earlier), from));
        self.work.lose(now, load);
        Doubt::Jumps
    }

    fn follow_slope(&mut self, now: Millis, reading: Celsius) {
        match self.slope_from {
            Some((then, from)) if now.since(then) >= SLOPE_OVER => {
                self.rising = (reading.0 - from.0) / now.since(then).as_seconds();
                self.slope_from = Some((now, reading));
            }
            None => self.slope_from = Some((now, reading)),
            // What has turned falls no more, whatever it did before.
            Some((_, from)) if reading.0 > from.0 + TURNED => self.rising = self.rising.max(0.0),
            Some(_) => {}
        }
    }
}

impl Believed {
    /// By how much the die can be colder by now.
    fn may_fall(&self, now: Millis) -> f32 {
        match self.has_rested {
            true => JUMP + COOLS * now.since(self.at).as_seconds(),
            false => STEADY_JUMP,
        }
    }
}
