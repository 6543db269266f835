//! The thermal law: how fast the fan turns, and how far the engine has to slow down.
//!
//! Terms. *Level*: a reading as a share of its sensor's own limit, times [`Limits::limit`]; the law sees all sensors as
//! one, the one with the highest level. *Doubted*: a sensor whose readings cannot be true; it counts for nothing until
//! they can. *Blind*: no sensor is left that is not doubted, or none of those on the die, for which no other can stand in.
//!
//! The order is: fan, then a slower engine, then no answers, and all of that below the limit at which the SoC's own
//! firmware acts. What is not known is taken for the worst: blind, the fan is full and the engine slow; with a fan that
//! fails it stops, and on a board that has none of its own, too, unless something is read that may be true and is not hot.
//! A board that never had a sensor is left to its firmware.

mod fan;
mod limits;
mod sensor;

pub use fan::FanFault;
pub use limits::{HYSTERESIS, Limits};
pub use sensor::{Doubt, PLAUSIBLE};

use crate::device::Fault;
use crate::units::{Celsius, Duty, Millis, Rpm};
use fan::Fan;
use sensor::{Load, Track};

/// The most sensors of a board that the law follows.
pub const MAX_SENSORS: usize = 8;

/// How far ahead a rise is looked at, in seconds.
const AHEAD: f32 = 4.0;
/// The engine slows by one more step at most so often, unless it is urgent.
const SLOWER_EVERY: Millis = Millis::seconds(4);
/// It gets faster by one step at most so often.
const FASTER_EVERY: Millis = Millis::seconds(20);
/// The same where it is far from hot: it was slowed for a rise that did not go on, or for a sensor that was doubted.
const FASTER_IF_FAR: Millis = Millis::seconds(4);
/// What is less than this in a second is not falling.
const FALLS: f32 = -0.05;

/// How much of its heat the engine may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Throttle {
    /// All.
    #[default]
    None,
    /// Three quarters.
    Light,
    /// Half.
    Half,
    /// A quarter.
    Quarter,
    /// None: running answers end with an error, and no prompt is taken.
    Stop,
}

impl Throttle {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Light,
        Self::Half,
        Self::Quarter,
        Self::Stop,
    ];

    /// 0 for none to 4 for stop.
    pub const fn step(self) -> u8 {
        self as u8
    }

    fn slower(self) -> Self {
        Self::ALL[(self as usize + 1)
            .min(Self::Quarter as usize)
            .max(self as usize)]
    }

    fn faster(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

/// One sensor, now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// What it says.
    pub reading: Result<Celsius, Fault>,
    /// What it must never exceed.
    pub limit: Celsius,
    /// Whether it is on the processor's die, and so rises within seconds when the engine works.
    pub on_die: bool,
}

/// What was measured, all at about the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The sensors, each always at the same place; those beyond [`MAX_SENSORS`] are not followed.
    pub sensors: &'a [Sample],
    /// Whether there is a fan that can be driven, and whether the last attempt to do so worked.
    pub fan: Option<Result<(), Fault>>,
    /// How fast it turns, if that is measured.
    pub tachometer: Option<Result<Rpm, Fault>>,
    /// Whether the SoC's firmware slows the processor because of heat, if it says that.
    pub soc_throttles: Option<bool>,
    /// Whether the engine computes.
    pub working: bool,
}

/// What the law decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cooling {
    /// How strongly to drive the fan, if there is one.
    pub duty: Duty,
    /// How far the engine has to slow down.
    pub throttle: Throttle,
    /// Whether that is because of heat; else it is because of what is not known.
    pub hot: bool,
    /// The temperature of the sensor that is nearest to its limit; none while blind.
    pub temperature: Option<Celsius>,
    /// What is wrong with each sensor, at its place.
    pub doubts: [Option<Doubt>; MAX_SENSORS],
    /// What is wrong with the fan.
    pub fan_fault: Option<FanFault>,
}

/// The law, and what it remembers.
#[derive(Clone, Debug)]
pub struct Law {
    limits: Limits,
    tracks: [Track; MAX_SENSORS],
    fan: Fan,
    throttle: Throttle,
    throttled_at: Millis,
}

impl Law {
    /// For a board with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            tracks: [const { Track::new() }; MAX_SENSORS],
            fan: Fan::default(),
            throttle: Throttle::None,
            throttled_at: Millis(0),
        }
    }

    /// Takes what was measured; at least every two seconds.
    pub fn update(&mut self, now: Millis, measured: &Measured) -> Cooling {
        let limits = self.limits;
        let mut doubts = [None; MAX_SENSORS];
        let mut hottest: Option<Heat> = None;
        let load = match (measured.working, self.throttle) {
            (false, _) => Load::Rest,
            (true, Throttle::None | Throttle::Light | Throttle::Half) => Load::Full,
            (true, Throttle::Quarter | Throttle::Stop) => Load::Slowed,
        };
        for ((track, sample), doubt) in self
            .tracks
            .iter_mut()
            .zip(measured.sensors)
            .zip(&mut doubts)
        {
            let hot = |reading| limits.level(reading, sample) >= limits.throttle - HYSTERESIS;
            let slowed = self.throttle >= Throttle::Quarter && sample.reading.is_ok_and(hot);
            *doubt = track.update(now, sample, load, slowed);
            let heat = track.rate().map(|(reading, rising)| Heat {
                level: limits.level(reading, sample),
                shown: reading,
                rising: limits.level(Celsius(rising), sample).0,
            });
            if let (None, Some(heat)) = (&doubt, heat)
                && hottest.is_none_or(|hottest| heat.level > hottest.level)
            {
                hottest = Some(heat);
            }
        }
        let soc_slows = measured.soc_throttles == Some(true);
        // The SoC is hot, and no sensor says so: they lie.
        if soc_slows && hottest.is_none_or(|heat| heat.level < limits.soc_slows) {
            for (doubt, _) in doubts.iter_mut().zip(measured.sensors) {
                doubt.get_or_insert(Doubt::Contradicted);
            }
        }
        let blind = is_blind(measured.sensors, &doubts);
        let seen = hottest.filter(|_| !blind);
        let level = seen.map(|heat| match soc_slows {
            true => Celsius(heat.level.0.max(limits.fan_full.0)),
            false => heat.level,
        });
        let (duty, fan_fault) = self.fan.update(now, level, &limits, measured);
        let cooled = measured.fan.is_some() && fan_fault.is_none_or(FanFault::still_turns);
        let tried = self.tracks.iter().any(Track::is_to_be_tried);
        let least = match () {
            // For as long as a step takes to be taken back: one that rises with the work then is believed.
            () if blind && cooled && tried => Throttle::Quarter,
            () if blind && cooled => Throttle::Half,
            () if blind && measured.fan.is_none() && self.may_be_cool(measured, &doubts) => {
                Throttle::Quarter
            }
            () if blind => Throttle::Stop,
            // A fan that should turn and does not, or a SoC that slows down early: slower before it is hot.
            () if soc_slows || (measured.fan.is_some() && !cooled) => Throttle::Light,
            () => Throttle::None,
        };
        let (throttle, hot) = match measured.sensors.is_empty() {
            // Nobody was ever to know: that is the board's way, and no fault.
            true => (Throttle::None, false),
            false => self.throttle(now, hottest, least),
        };
        Cooling {
            duty,
            throttle,
            hot: !blind && (hot || soc_slows),
            temperature: seen.map(|heat| heat.shown),
            doubts,
            fan_fault,
        }
    }

    /// Whether all that is read on the die and may be true is below where the engine is slowed, and something is.
    fn may_be_cool(&self, measured: &Measured, doubts: &[Option<Doubt>]) -> bool {
        let may_be = |doubt: &Option<Doubt>| {
            matches!(
                doubt,
                Some(Doubt::Stuck | Doubt::Falls | Doubt::Jumps | Doubt::NotYet)
            )
        };
        let on_die = measured.sensors.iter().zip(doubts);
        let mut read = on_die
            .filter(|(sample, doubt)| sample.on_die && may_be(doubt))
            .filter_map(|(sample, _)| Some(self.limits.level(sample.reading.ok()?, sample)));
        let hottest = read.next().map(|first| {
            read.fold(
                first,
                |hottest, level| if level > hottest { level } else { hottest },
            )
        });
        hottest.is_some_and(|level| level < self.limits.throttle)
    }

    /// How far to slow down, at least so far, and whether that is because of heat.
    fn throttle(&mut self, now: Millis, heat: Option<Heat>, least: Throttle) -> (Throttle, bool) {
        let limits = &self.limits;
        let level = heat.map_or(Celsius(0.0), |heat| heat.level);
        let rising = heat.map_or(0.0, |heat| heat.rising);
        let soon = Celsius(level.0 + rising.max(0.0) * AHEAD);
        let middle = Celsius((limits.throttle.0 + limits.critical.0) / 2.0);
        let urgent = match () {
            () if level >= limits.critical => Throttle::Stop,
            () if soon >= limits.critical => Throttle::Quarter,
            () if soon >= middle => Throttle::Half,
            () => Throttle::None,
        };
        let urgent = urgent.max(least);
        let since = now.since(self.throttled_at);
        let faster_every = match heat {
            Some(_) if soon < limits.fan_full => FASTER_IF_FAR,
            _ => FASTER_EVERY,
        };
        let next = if urgent > self.throttle {
            urgent
        } else if soon >= limits.throttle
            && rising > FALLS
            && (since >= SLOWER_EVERY || self.throttle == Throttle::None)
        {
            self.throttle.slower()
        } else if self.throttle == Throttle::Stop
            && level < limits.throttle
            && since >= FASTER_EVERY
        {
            // Else who asks would be refused for as long as it stays just below.
            Throttle::Quarter.max(urgent)
        } else if level < limits.throttle - HYSTERESIS && since >= faster_every {
            self.throttle.faster().max(urgent)
        } else {
            self.throttle
        };
        if next != self.throttle {
            (self.throttle, self.throttled_at) = (next, now);
        }
        let hot = self.throttle > Throttle::None && level >= limits.throttle - HYSTERESIS;
        (self.throttle, hot || self.throttle == Throttle::Stop)
    }
}

/// Whether no sensor is left that can be believed, or none of those that are on the die.
fn is_blind(sensors: &[Sample], doubts: &[Option<Doubt>]) -> bool {
    let is_on_die = |of: &Sample| of.on_die;
    let on_die = sensors.iter().take(MAX_SENSORS).any(is_on_die);
    let mut all = sensors.iter().zip(doubts);
    !all.any(|(sample, doubt)| doubt.is_none() && (sample.on_die || !on_die))
}

/// What a sensor that is not doubted says.
#[derive(Clone, Copy)]
struct Heat {
    /// On the law's scale.
    level: Celsius,
    /// As it was read.
    shown: Celsius,
    /// In °C a second.
    rising: f32,
}
