//! The fan: as fast as it is warm, never hunting, and full when anything is not as it should be.
//!
//! Between the duty for a temperature and the duty for one that is [`HYSTERESIS`] higher it stays as it is. It turns from
//! slower to faster, or back, at most once a minute, unless it gets warmer by more than another hysteresis meanwhile.
//! A fan cannot turn as slowly as it likes: where off is too little and the least too much, it goes off ever more seldom.

use super::{HYSTERESIS, Limits, Measured};
use crate::device::Fault;
use crate::units::{Celsius, Duty, Millis, Rpm};

/// How long it keeps its direction.
const KEEPS: Millis = Millis::seconds(60);
/// Off for so long, it was not needed.
const NOT_NEEDED: Millis = Millis::seconds(600);
/// It goes off at least so often, where that is called for.
const GOES_OFF_WITHIN: Millis = Millis::seconds(3600);
/// It slows down by so much in a second, of 255.
const SLOWS: f32 = 4.0;
/// A fan that is driven turns within this time.
const SPINS_UP: Millis = Millis::seconds(6);
/// Many a fan starts only at full, and then turns slowly, too: one that stands still for so long is driven fully. So is one
/// that nobody measures, for so long as it starts.
const STARTS_BY_ITSELF: Millis = Millis::seconds(2);
/// Slower than this, a fan stands still.
const STILL: Rpm = Rpm(100);
/// How long a fan that was blocked has to turn until it counts as turning.
const TURNS_FOR: Millis = Millis::seconds(3);

/// What is wrong with the fan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanFault {
    /// It is driven and does not turn.
    Blocked,
    /// It cannot be driven.
    Undriven(Fault),
    /// Nobody knows how fast it turns, as what measures that does not answer.
    Unmeasured(Fault),
}

impl FanFault {
    /// One word, for `/api/events`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Undriven(fault) => fault.name(),
            Self::Unmeasured(_) => "unmeasured",
        }
    }

    pub(super) fn still_turns(self) -> bool {
        matches!(self, Self::Unmeasured(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Faster,
    Slower,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fan {
    duty: Duty,
    direction: Option<(Direction, Millis)>,
    faster_at: Millis,
    updated_at: Millis,
    /// How long it turns before it goes off.
    turns_at_least: Millis,
    on_at: Millis,
    off_at: Option<Millis>,
    /// Since when it is driven and stands still.
    still_since: Option<Millis>,
    /// When it was last started at full.
    kicked_at: Option<Millis>,
    blocked: bool,
    /// Since when it turns, after it was blocked.
    turns_since: Option<Millis>,
}

impl Fan {
    pub(super) fn update(
        &mut self,
        now: Millis,
        level: Option<Celsius>,
        limits: &Limits,
        measured: &Measured,
    ) -> (Duty, Option<FanFault>) {
        let fault = self.fault(now, measured);
        let span = now.since(self.updated_at).as_seconds();
        self.updated_at = now;
        let wanted = match (level, fault) {
            // Full may also get it going.
            (None, _) | (_, Some(_)) => Duty::FULL,
            (Some(level), None) => self.wanted(now, level, limits, span),
        };
        self.turn_to(now, wanted);
        let starts = match measured.tachometer {
            Some(Ok(_)) => self
                .still_since
                .is_some_and(|since| now.since(since) >= STARTS_BY_ITSELF),
            _ => now.since(self.on_at) < STARTS_BY_ITSELF,
        };
        if starts && self.duty > Duty::OFF {
            self.kicked_at = Some(now);
            return (Duty::FULL, fault);
        }
        (self.duty, fault)
    }

    fn wanted(&self, now: Millis, level: Celsius, limits: &Limits, span: f32) -> Duty {
        let slowed =
            matches!(self.direction, Some((Direction::Slower, at)) if now.since(at) < KEEPS);
        let least = curve(if slowed { level - HYSTERESIS } else { level }, limits);
        let most = curve(level + HYSTERESIS, limits);
        if self.duty < least {
            return least;
        }
        let turned = self.direction.map_or(Millis(0), |(_, at)| at);
        let may_slow = now.since(self.faster_at) >= KEEPS
            && (now.since(turned) >= KEEPS
                || matches!(self.direction, Some((Direction::Slower, _))));
        if self.duty > most && may_slow {
            let slower = self
                .duty
                .0
                .saturating_sub((SLOWS * span).clamp(1.0, 60.0) as u8);
            let slower = Duty(slower).max(most);
            return match now.since(self.on_at) >= self.turns_at_least {
                true if slower < limits.fan_least => Duty::OFF,
                _ => slower.max(limits.fan_least),
            };
        }
        self.duty
    }

    fn turn_to(&mut self, now: Millis, wanted: Duty) {
        let direction = match wanted.cmp(&self.duty) {
            core::cmp::Ordering::Equal => return,
            core::cmp::Ordering::Greater => Direction::Faster,
            core::cmp::Ordering::Less => Direction::Slower,
        };
        if direction == Direction::Faster {
            self.faster_at = now;
        }
        if self.duty == Duty::OFF {
            let in_vain = self.off_at.is_some_and(|at| now.since(at) < NOT_NEEDED);
            self.turns_at_least = match in_vain {
                true => Millis(self.turns_at_least.0 * 4).clamp(KEEPS, GOES_OFF_WITHIN),
                false => KEEPS,
            };
            self.on_at = now;
        }
        if wanted == Duty::OFF {
            self.off_at = Some(now);
        }
        if self.direction.is_none_or(|(was, _)| was != direction) {
            self.direction = Some((direction, now));
        }
        self.duty = wanted;
    }

    fn fault(&mut self, now: Millis, measured: &Measured) -> Option<FanFault> {
        if let Err(fault) = measured.fan? {
            return Some(FanFault::Undriven(fault));
        }
        let rpm = match measured.tachometer? {
            Ok(rpm) => rpm,
            Err(fault) => return Some(FanFault::Unmeasured(fault)),
        };
        if self.duty > Duty::OFF && rpm < STILL {
            let stopped = self.still_since.is_none();
            let since = *self.still_since.get_or_insert(now);
            self.turns_since = None;
            // One that stops again does not turn as slowly as it should.
            let again = stopped && self.kicked_at.is_some_and(|at| now.since(at) < KEEPS);
            self.blocked |= again || now.since(since) >= SPINS_UP;
        } else {
            self.still_since = None;
            let since = *self.turns_since.get_or_insert(now);
            if now.since(since) >= TURNS_FOR {
                self.blocked = false;
            }
        }
        self.blocked.then_some(FanFault::Blocked)
    }
}

/// The duty for a temperature: off, or from the least that turns the fan, straight up to full.
fn curve(level: Celsius, limits: &Limits) -> Duty {
    if level < limits.fan_starts {
        return Duty::OFF;
    }
    let least = f32::from(limits.fan_least.0) / 255.0;
    let share = (level - limits.fan_starts).0 / (limits.fan_full - limits.fan_starts).0;
    Duty::share(least + (1.0 - least) * share.min(1.0))
}
