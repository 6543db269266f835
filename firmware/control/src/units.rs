//! Units as types, so that no figure is taken for another's.

use core::fmt;
use core::ops::{Add, Sub};

/// A temperature, or a difference of two, in °C.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Celsius(pub f32);

/// Power in watts.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Watts(pub f32);

/// Energy in joules.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Joules(pub f64);

/// Energy in watt-hours.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct WattHours(pub f64);

/// Energy for each generated token.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct JoulesPerToken(pub f64);

/// Tokens in a second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct TokensPerSecond(pub f32);

/// Revolutions of a fan in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rpm(pub u32);

/// How strongly a fan is driven: 0 is off, 255 full, as hwmon's `pwm` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duty(pub u8);

impl Duty {
    /// Off.
    pub const OFF: Self = Self(0);
    /// As fast as it goes.
    pub const FULL: Self = Self(255);

    /// This share of full, from 0 to 1.
    pub fn share(share: f32) -> Self {
        // A float becomes the nearest value of the type it is cast to, and NaN 0.
        Self((share * 255.0 + 0.5) as u8)
    }

    /// In whole percent of full.
    pub fn percent(self) -> u8 {
        ((u16::from(self.0) * 100 + 127) / 255) as u8
    }
}

/// A moment, or a span of time, in milliseconds of a clock that starts anywhere and never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// This many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// The time since `earlier`; none if that is later.
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// In seconds.
    pub fn as_seconds(self) -> f32 {
        self.0 as f32 / 1000.0
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Add for Celsius {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Celsius {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} °C", self.0)
    }
}

impl fmt::Display for TokensPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} tokens/s", self.0)
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} W", self.0)
    }
}

impl fmt::Display for Rpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rpm", self.0)
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}
