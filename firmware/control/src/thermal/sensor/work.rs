//! Whether a sensor on the die follows what the engine does.
//!
//! A die rises by degrees within seconds when the processor begins to work: a sensor on it that does not move then, or falls,
//! measures something else. One that is hot cools when the engine is slowed: if it then stays as it is for minutes it is
//! stuck, too. Under steady work only what has shown fine steps has to move: many a sensor has whole degrees.

use super::Doubt;
use crate::units::{Celsius, Millis};

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

/// How the sensor follows the engine's work.
#[derive(Clone, Debug)]
pub struct Work {
    at: Millis,
    pub load: Load,
    rests_since: Millis,
    slowed_since: Millis,
    /// The reading when it was given less to do.
    eased_at: Option<Celsius>,
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
pub enum Load {
    /// Nothing.
    Rest,
    /// Enough to warm the die.
    Full,
    /// Too little for that to be sure.
    Slowed,
}

impl Work {
    /// Nothing is known yet.
    pub const NONE: Self = Self {
        at: Millis(0),
        load: Load::Rest,
        rests_since: Millis(0),
        slowed_since: Millis(0),
        eased_at: None,
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
    };

    /// Takes a reading; says whether it follows what the engine does.
    pub fn follow(
        &mut self,
        now: Millis,
        reading: Celsius,
        load: Load,
        slowed: bool,
    ) -> Option<Doubt> {
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
            (_, Load::Rest) => {
                self.rests_since = now;
                if self.load == Load::Full {
                    self.eased_at = Some(reading);
                }
            }
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
                    self.eased_at = Some(reading);
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

    /// Whether less work for a moment would show that it can be believed.
    pub fn is_to_be_tried(&self) -> bool {
        self.falls.is_some_and(|worked| worked >= TRIED_AFTER)
    }

    /// One that rose while it was given less to do rises for another reason than work.
    fn may_rise(&mut self, reading: Celsius) {
        let rose = self
            .eased_at
            .is_some_and(|from| reading.0 >= from.0 + RISEN);
        self.rises_from = (!rose).then_some((reading, Millis(0)));
        self.falls = self.falls.map(|_| Millis(0));
    }

    /// There is no reading: what it follows from then on is not known. One that comes back as it was has not moved.
    pub fn lose(&mut self, now: Millis, load: Load) {
        (self.at, self.load) = (now, load);
        (self.from, self.rises_from) = (None, None);
    }
}
