//! The devices of a board, as the panel sees them. Drivers implement these; the laws see what they return.
//!
//! A call may block for as long as a transaction on a slow bus does, a few milliseconds, and no longer.
//! It reports what is so now, and is called again: a device that failed and came back answers again, without a restart.

use crate::light::Rgb;
use crate::units::{Celsius, Duty, Rpm, Watts};

/// Why a device did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none, or no more: its file is gone, or nobody acknowledges its address.
    Absent,
    /// The bus, or the kernel's driver, reports an error.
    Bus,
    /// It answers what it cannot mean: another device's ID, a register out of its range.
    Nonsense,
    /// The kernel does not let this process use it.
    Denied,
    /// Somebody else uses it.
    Taken,
    /// There are several, and nothing says which.
    Ambiguous,
    /// Its driver, a part of this program, has a fault of its own.
    Driver,
}

impl Fault {
    /// One word, for `/api/events` and `probe`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Bus => "bus_error",
            Self::Nonsense => "nonsense",
            Self::Denied => "denied",
            Self::Taken => "taken",
            Self::Ambiguous => "ambiguous",
            Self::Driver => "driver_failed",
        }
    }
}

/// Measures a temperature.
pub trait Thermometer {
    /// The temperature now.
    ///
    /// # Errors
    /// The device does not answer.
    fn read(&mut self) -> Result<Celsius, Fault>;
}

/// Measures the power of the whole board.
pub trait PowerMeter {
    /// The power now.
    ///
    /// # Errors
    /// The device does not answer.
    fn read(&mut self) -> Result<Watts, Fault>;
}

/// Drives a fan.
pub trait FanDrive {
    /// Drives it at least so strongly: a driver with few steps takes the next higher one.
    ///
    /// # Errors
    /// The device does not answer.
    fn set(&mut self, duty: Duty) -> Result<(), Fault>;
}

/// Measures how fast a fan turns.
pub trait Tachometer {
    /// The speed now; 0 when it stands still.
    ///
    /// # Errors
    /// The device does not answer.
    fn read(&mut self) -> Result<Rpm, Fault>;
}

/// What the SoC's own firmware says: that it slows the processor because of heat, now.
pub trait SocThrottle {
    /// Whether it does.
    ///
    /// # Errors
    /// The device does not answer.
    fn read(&mut self) -> Result<bool, Fault>;
}

/// The status light. One without colours shines for every colour but black.
pub trait StatusLight {
    /// Shines in this colour from now on.
    ///
    /// # Errors
    /// The device does not answer.
    fn set(&mut self, colour: Rgb) -> Result<(), Fault>;
}

/// A hardware watchdog, which resets the machine when it is not fed.
pub trait Watchdog {
    /// Feeds it.
    ///
    /// # Errors
    /// The device does not answer.
    fn feed(&mut self) -> Result<(), Fault>;
}
