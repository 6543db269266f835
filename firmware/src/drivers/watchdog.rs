//! A hardware watchdog (<https://docs.kernel.org/watchdog/watchdog-api.html>).
//!
//! In: a device of the kernel's. Out: it is fed. Opening it starts it: from then on it resets the machine when nobody feeds
//! it. A panel that ends as it should stops it; one that crashes does not.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use cloister_control::device::{Fault, Watchdog};

use crate::board::Machine;
use cloister_sysfs::class::{Class, Device, text};
use cloister_sysfs::fault;

/// `_IOWR('W', 6, int)`: sets the time in seconds, and says which it has become.
const WDIOC_SETTIMEOUT: u32 = 0xc004_5706;
/// What to write last, so that closing it stops it.
const MAGIC_CLOSE: &[u8] = b"V";

/// The watchdogs of this machine, called what the kernel says that they are.
pub fn watchdogs(machine: &Machine) -> Class {
    Class::new(machine.path("/sys/class/watchdog"), "identity")
}

/// A watchdog that is not started.
pub struct Dog {
    node: PathBuf,
    seconds: i32,
    stays: bool,
    runs: bool,
}

impl Dog {
    /// This one, which is to wait for so many seconds; less where it cannot wait so long.
    ///
    /// # Errors
    /// Its device is not there.
    pub fn of(machine: &Machine, mut device: Device, seconds: i32) -> Result<Self, Fault> {
        let name = device.at().file_name().unwrap_or_default();
        let node = machine.path("/dev").join(name);
        if !node.exists() {
            return Err(Fault::Absent);
        }
        let longest = device.read("max_timeout").unwrap_or(0);
        let seconds = match i64::from(seconds) {
            wanted if longest > 0 => wanted.min(longest),
            wanted => wanted,
        };
        Ok(Self {
            node,
            seconds: seconds as i32,
            stays: device.read("nowayout") == Ok(1),
            runs: text(&device.at().join("state")).is_ok_and(|state| state == "active"),
        })
    }

    /// Whether somebody has started it. Who did may be gone, and it still waits to be fed.
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// What it does, in a few words.
    pub fn about(&self) -> String {
        let stays = match self.stays {
            true => "; once started it cannot be stopped",
            false => "",
        };
        let seconds = self.seconds;
        format!("resets the machine when it was not fed for {seconds} s{stays}")
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be opened, or does not wait as long as it has to.
    pub fn start(&self) -> Result<Started, Fault> {
        let open = File::options().write(true).open(&self.node);
        let mut open = open.map_err(|error| fault(&error))?;
        match set_timeout(&open, self.seconds) {
            Some(seconds) if seconds < self.seconds => {
                let _ = open.write_all(MAGIC_CLOSE);
                Err(Fault::Nonsense)
            }
            _ => Ok(Started(open)),
        }
    }
}

/// A watchdog that runs.
pub struct Started(File);

/// The seconds that it will wait; nothing where it does not let that be changed.
fn set_timeout(open: &File, seconds: i32) -> Option<i32> {
    let mut seconds = seconds;
    // SAFETY: the call reads and writes one `int`, which lives for it; the descriptor is open.
    let done = unsafe { libc::ioctl(open.as_raw_fd(), WDIOC_SETTIMEOUT as _, &raw mut seconds) };
    (done == 0).then_some(seconds)
}

impl Watchdog for Started {
    fn feed(&mut self) -> Result<(), Fault> {
        self.0.write_all(b"\0").map_err(|error| fault(&error))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Who panics has not ended as it should.
        if !std::thread::panicking() {
            let _ = self.0.write_all(MAGIC_CLOSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_sysfs::made::machine;
    use std::fs;

    fn dog(machine: &Machine) -> Result<Dog, Fault> {
        let device = watchdogs(machine).devices(|_| true).remove(0);
        Dog::of(machine, device, 30)
    }

    #[test]
    fn a_watchdog_is_started_by_its_first_feeding_and_stopped_by_who_ends_well() {
        let (_root, machine) = machine(&[("/sys/class/watchdog/watchdog0/identity", "Dog")]);
        assert_eq!(dog(&machine).err(), Some(Fault::Absent));
        let node = machine.path("/dev/watchdog0");
        machine.put("/dev/watchdog0", "");
        let dog = dog(&machine).unwrap();
        assert_eq!(fs::read(&node).unwrap(), b"\n", "it was touched");
        let mut started = dog.start().unwrap();
        assert_eq!((started.feed(), started.feed()), (Ok(()), Ok(())));
        assert_eq!(fs::read(&node).unwrap(), b"\0\0");
        drop(started);
        assert_eq!(fs::read(&node).unwrap(), b"\0\0V");
    }

    #[test]
    fn one_that_somebody_has_started_is_known_as_such() {
        let (_root, machine) = machine(&[
            ("/sys/class/watchdog/watchdog0/identity", "Dog"),
            ("/sys/class/watchdog/watchdog0/state", "inactive"),
            ("/dev/watchdog0", ""),
        ]);
        assert!(!dog(&machine).unwrap().runs());
        machine.put("/sys/class/watchdog/watchdog0/state", "active");
        assert!(dog(&machine).unwrap().runs());
    }

    #[test]
    fn who_panics_leaves_it_running() {
        let (_root, machine) = machine(&[
            ("/sys/class/watchdog/watchdog1/identity", "Dog"),
            ("/dev/watchdog1", ""),
        ]);
        let mut dog = dog(&machine).unwrap().start().unwrap();
        let panicked = std::thread::scope(|scope| {
            let feeds = scope.spawn(move || {
                dog.feed().unwrap();
                panic!("on purpose");
            });
            feeds.join().is_err()
        });
        assert!(panicked);
        assert_eq!(fs::read(machine.path("/dev/watchdog1")).unwrap(), b"\0");
    }
}
