//! Drivers: one file for each kind of device, behind the traits of `cloister_control::device`.
//!
//! In: paths, buses and lines. Out: readings, or the [`Fault`] that says why there is none.
//! Must never decide anything, and never keep a device out: each call tries again.

pub mod bus_thermometer;
pub mod emc;
pub mod gpio;
pub mod hwmon;
pub mod i2c;
pub mod ina;
pub mod led;
pub mod ssd1306;
pub mod sysfs;
pub mod thermal;
pub mod throttled;
pub mod watchdog;
pub mod ws2812;

use std::io;

use cloister_control::device::Fault;

/// What an error of the kernel means for a device.
pub fn fault(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => Fault::Absent,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Fault::Denied,
        Some(libc::EBUSY) => Fault::Taken,
        _ => Fault::Bus,
    }
}

/// What to do about it, for `probe`.
pub fn advice(fault: Fault) -> &'static str {
    match fault {
        Fault::Absent => "there is none",
        Fault::Bus => "it reports an error",
        Fault::Nonsense => "it answers what it cannot mean",
        Fault::Denied => "no permission: the panel's user must be in the group of that file",
        Fault::Taken => "somebody else uses it; what the kernel has a driver for is used by hwmon",
        Fault::Ambiguous => "there are several, and nothing says which",
    }
}
