//! What the panel decides.

use crate::device::Fault;
use crate::display::View;
use crate::light::Rgb;
use crate::thermal::{Doubt, FanFault, MAX_SENSORS, Throttle};
use crate::units::{Celsius, Duty, JoulesPerToken, Millis, WattHours};

/// What the status light says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shown {
    Starting,
    Ready,
    Reading,
    Thinking,
    Answering,
    TooHot,
    Broken,
    Private,
    ShuttingDown,
}

impl Shown {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Ready,
        Self::Reading,
        Self::Thinking,
        Self::Answering,
        Self::TooHot,
        Self::Broken,
        Self::Private,
        Self::ShuttingDown,
    ];

    /// One word, for `/api/events`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Reading => "reading",
            Self::Thinking => "thinking",
            Self::Answering => "answering",
            Self::TooHot => "too_hot",
            Self::Broken => "broken",
            Self::Private => "private",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// `serve` is away or not ready for too long, hangs, or has failed.
    pub engine: bool,
    /// `serve` does not do as the privacy switch says.
    pub privacy_ignored: bool,
    /// `serve` knows of a privacy switch of this box, and this panel has none.
    pub privacy_unwired: bool,
    /// `serve` is slowed otherwise than it was asked to be.
    pub throttle_ignored: bool,
    /// The privacy switch does not answer.
    pub privacy_switch: Option<Fault>,
    /// The button does not answer.
    pub button: Option<Fault>,
    /// The button is held for longer than anybody means.
    pub button_stuck: bool,
    /// A shutdown could not be asked for.
    pub shutdown: Option<Fault>,
    /// It was asked for, and the machine is still here.
    pub shutdown_ignored: bool,
    /// The sensors, each at its place.
    pub sensors: [Option<Doubt>; MAX_SENSORS],
    /// The fan.
    pub fan: Option<FanFault>,
    /// The meter of power.
    pub power: Option<Fault>,
    /// Another device.
    pub other: bool,
}

impl Problems {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// All of what is to be so now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outputs {
    /// What the light says.
    pub shown: Shown,
    /// How the light looks at this moment.
    pub light: Rgb,
    /// What the display shows.
    pub view: View,
    /// How strongly the fan is driven.
    pub fan: Duty,
    /// How far `serve` has to slow down.
    pub throttle: Throttle,
    /// Whether `serve` has to take no prompts; none without a switch, as then it is not the panel's to say.
    pub private: Option<bool>,
    /// At this moment: running answers are to stop.
    pub stop_answers: bool,
    /// At this moment: the machine is to shut down.
    pub shut_down: bool,
    /// Whether the watchdogs are to be fed.
    pub feed: bool,
    /// The temperature, of the sensor with the least margin.
    pub temperature: Option<Celsius>,
    /// What a token takes.
    pub joules_per_token: Option<JoulesPerToken>,
    /// What the last day took.
    pub last_day: Option<WattHours>,
    /// What all took since the panel's start.
    pub total: Option<WattHours>,
    /// What is wrong.
    pub problems: Problems,
    /// When to measure again.
    pub measure_at: Millis,
    /// When to call again even if nothing happens; never later than `measure_at`.
    pub again: Millis,
}
