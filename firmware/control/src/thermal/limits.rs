//! What a board can bear.

use super::Sample;
use crate::units::{Celsius, Duty};

/// Temperatures, each of the first five above the one before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The fan begins to turn.
    pub fan_starts: Celsius,
    /// The fan is full.
    pub fan_full: Celsius,
    /// The engine begins to slow down.
    pub throttle: Celsius,
    /// Answers end.
    pub critical: Celsius,
    /// Never to be exceeded: where the SoC's firmware slows down by itself.
    pub limit: Celsius,
    /// The SoC's firmware or the kernel may slow the processor by itself from here on. If it does while all sensors are
    /// below, they lie.
    pub soc_slows: Celsius,
    /// The least duty at which this fan turns reliably.
    pub fan_least: Duty,
}

/// How far a temperature must fall until what it caused is taken back.
pub const HYSTERESIS: Celsius = Celsius(4.0);

impl Limits {
    /// Whether they can be kept to: in order, and with room for the hysteresis.
    ///
    /// # Errors
    /// What is wrong, as one sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        let all = [
            self.fan_starts,
            self.fan_full,
            self.throttle,
            self.critical,
            self.limit,
        ];
        if all
            .iter()
            .chain([&self.soc_slows])
            .any(|limit| !limit.0.is_finite() || !(0.0..=125.0).contains(&limit.0))
        {
            return Err("a limit is not between 0 and 125 °C");
        }
        if all.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("limits must rise: fan-starts, fan-full, throttle, critical, limit");
        }
        if self.fan_full + HYSTERESIS > self.throttle {
            return Err(
                "throttle must be 4 °C above fan-full, or the engine slows before the fan is full",
            );
        }
        Ok(())
    }

    /// A reading, or a rise of one, of a sensor with a limit of its own, as if that were the board's.
    pub(super) fn level(&self, reading: Celsius, of: &Sample) -> Celsius {
        // A limit that cannot be is a low one.
        Celsius(reading.0 * self.limit.0 / of.limit.0.max(1.0))
    }
}
