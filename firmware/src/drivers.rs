//! Drivers: one file for each kind of device, behind the traits of `cloister_control::device`.
//!
//! In: paths, buses and lines. Out: readings, or the [`Fault`] that says why there is none.
//! Must never decide anything, and never keep a device out: each call tries again.

pub mod bus_thermometer;
pub mod emc;
pub mod gpio;
pub mod i2c;
pub mod ina;
pub mod led;
pub mod ssd1306;
pub mod throttled;
pub mod watchdog;
pub mod ws2812;

use cloister_control::device::Fault;

/// What to do about it, for `probe`.
pub fn advice(fault: Fault) -> &'static str {
    match fault {
        Fault::Absent => "there is none",
        Fault::Bus => "it reports an error",
        Fault::Nonsense => "it answers what it cannot mean",
        Fault::Denied => "no permission: the panel's user must be in the group of that file",
        Fault::Taken => "somebody else uses it; what the kernel has a driver for is used by hwmon",
        Fault::Ambiguous => "there are several, and nothing says which",
        Fault::Driver => {
            "the driver has a fault of its own, whose place the log has: tell who makes it"
        }
    }
}
