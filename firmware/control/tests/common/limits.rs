//! Of a Raspberry Pi 5, but that its kernel may slow it early.

use cloister_control::thermal::Limits;
use cloister_control::units::{Celsius, Duty};

pub const LIMITS: Limits = Limits {
    fan_starts: Celsius(50.0),
    fan_full: Celsius(67.0),
    throttle: Celsius(72.0),
    critical: Celsius(78.0),
    limit: Celsius(80.0),
    soc_slows: Celsius(60.0),
    fan_least: Duty(77),
};
