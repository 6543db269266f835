//! A hardware watchdog (<https://docs.kernel.org/watchdog/watchdog-api.html>).
//!
//! In: a device of the kernel's. Out: it is fed. The first feeding opens it, which starts it: from then on it resets the
//! machine when nobody feeds it. A panel that ends as it should stops it; one that crashes does not.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use cloister_control::device::{Fault, Watchdog};

use super::fault;
use super::sysfs::{Class, Device};
use crate::board::Machine;

/// `_IOWR('W', 6, int)`: sets the time in seconds, and says which it has become.
const WDIOC_SETTIMEOUT: u32 = 0xc004_5706;
/// What to write last, so that closing it stops it.
const MAGIC_CLOSE: &[u8] = b"V";

/// The watchdogs of this machine, called what the kernel says that they are.
pub fn watchdogs(machine: &Machine) -> Class {
    Class::new(machine.path("/sys/class/watchdog"), "identity")
}

/// One watchdog.
pub struct Dog {
    node: PathBuf,
    seconds: i32,
    open: Option<File>,
}

impl Dog {
    /// This one, which is to wait for so many seconds. It is not started.
    pub fn new(machine: &Machine, device: &Device, seconds: i32) -> Self {
        let name = device.at().file_name().unwrap_or_default();
        Self {
            node: machine.path("/dev").join(name),
            seconds,
            open: None,
        }
    }

    /// Its device.
    pub fn node(&self) -> &Path {
        &self.node
    }

    fn start(&self) -> Result<File, Fault> {
        let open = File::options().write(true).open(&self.node);
        let mut open = open.map_err(|error| fault(&error))?;
        match set_timeout(&open, self.seconds) {
            // It does not wait as long as it will be fed for.
            Some(seconds) if seconds < self.seconds => {
                let _ = open.write_all(MAGIC_CLOSE);
                Err(Fault::Nonsense)
            }
            _ => Ok(open),
        }
    }
}

/// The seconds that it will wait; nothing where it does not let that be changed.
fn set_timeout(open: &File, seconds: i32) -> Option<i32> {
    let mut seconds = seconds;
    // SAFETY: the call reads and writes one `int`, which lives for it; the descriptor is open.
    let done = unsafe { libc::ioctl(open.as_raw_fd(), WDIOC_SETTIMEOUT as _, &raw mut seconds) };
    (done == 0).then_some(seconds)
}

impl Watchdog for Dog {
    fn feed(&mut self) -> Result<(), Fault> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        open.write_all(b"\0").map_err(|error| fault(&error))?;
        self.open = Some(open);
        Ok(())
    }
}

impl Drop for Dog {
    fn drop(&mut self) {
        // Who panics has not ended as it should.
        if let (Some(open), false) = (&mut self.open, std::thread::panicking()) {
            let _ = open.write_all(MAGIC_CLOSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::sysfs::tests::{machine, put};
    use std::fs;

    fn dog(machine: &Machine) -> Dog {
        let device = watchdogs(machine).devices(|_| true).remove(0);
        Dog::new(machine, &device, 30)
    }

    #[test]
    fn a_watchdog_is_started_by_its_first_feeding_and_stopped_by_who_ends_well() {
        let (_root, machine) = machine(&[("/sys/class/watchdog/watchdog0/identity", "Dog")]);
        let mut early = dog(&machine);
        assert_eq!(early.feed(), Err(Fault::Absent));
        let node = machine.path("/dev/watchdog0");
        put(&machine, "/dev/watchdog0", "");
        drop(dog(&machine));
        assert_eq!(fs::read(&node).unwrap(), b"\n", "it was touched");
        assert_eq!((early.feed(), early.feed()), (Ok(()), Ok(())));
        assert_eq!(fs::read(&node).unwrap(), b"\0\0");
        drop(early);
        assert_eq!(fs::read(&node).unwrap(), b"\0\0V");
    }

    #[test]
    fn who_panics_leaves_it_running() {
        let (_root, machine) = machine(&[
            ("/sys/class/watchdog/watchdog1/identity", "Dog"),
            ("/dev/watchdog1", ""),
        ]);
        let mut dog = dog(&machine);
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
