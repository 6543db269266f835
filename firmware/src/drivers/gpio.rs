//! Lines of GPIO chips: buttons, switches and LEDs
//! (<https://docs.kernel.org/userspace-api/gpio/chardev.html>).
//!
//! In: a chip by its label, lines by their offset. Out: whether contacts are closed, and when that may have changed; light.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use cloister_control::device::{Fault, StatusLight};
use cloister_control::light::Rgb;
use gpiocdev_uapi::v2::{LineFlags, LineRequest, LineValues};
use gpiocdev_uapi::{Error, Name, has_event, read_event, v2};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::board::{Contact, Machine};
use cloister_sysfs::fault;

/// What the kernel, and `gpioinfo`, show as the user of our lines.
const CONSUMER: &str = "cloister-panel";
/// How long to wait before a line whose edges cannot be heard is looked at.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Opens the chip whose label meets a condition.
///
/// # Errors
/// There is none; or there is one that may not be opened, so that nobody knows its label; or there are several.
pub fn chip(machine: &Machine, wanted: impl Fn(&str) -> bool) -> Result<File, Fault> {
    let mut nodes: Vec<_> = fs::read_dir(machine.path("/dev"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("gpiochip"))
        // Raspberry Pi OS keeps older numbers as links.
        .filter_map(|entry| entry.path().canonicalize().ok())
        .collect();
    nodes.sort();
    nodes.dedup();
    let mut found = Err(Fault::Absent);
    for node in nodes {
        let chip = match File::open(&node) {
            Ok(chip) => chip,
            Err(error) => {
                found = found.or(Err(fault(&error)));
                continue;
            }
        };
        let label = v2::get_chip_info(&chip).map(|info| info.label.as_os_str().to_owned());
        if label.is_ok_and(|label| wanted(&label.to_string_lossy())) {
            if found.is_ok() {
                return Err(Fault::Ambiguous);
            }
            found = Ok(chip);
        }
    }
    found
}

/// Buses whose transfers may take long, or for ever.
const BUSES: [&str; 3] = ["i2c", "spi", "usb"];

/// Whether the lines of a chip are reached by such a bus, as those of an expander are.
pub fn is_on_a_bus(machine: &Machine, chip: &File) -> bool {
    v2::get_chip_info(chip)
        .is_ok_and(|info| is_behind(machine, &info.name.as_os_str().to_string_lossy()))
}

fn is_behind(machine: &Machine, chip: &str) -> bool {
    let device = machine.path("/sys/bus/gpio/devices").join(chip);
    let device = device.canonicalize().unwrap_or_default();
    let subsystems = device
        .ancestors()
        .map(|at| at.join("subsystem").read_link());
    let mut subsystems = subsystems.flatten();
    subsystems.any(|subsystem| BUSES.iter().any(|bus| subsystem.ends_with(bus)))
}

/// Who uses a line, if anybody does.
pub fn user(chip: &File, offset: u32) -> Option<String> {
    let info = v2::get_line_info(chip, offset).ok()?;
    let used = info.flags.contains(LineFlags::USED);
    used.then(|| info.consumer.as_os_str().to_string_lossy().into_owned())
}

/// Takes lines of a chip, which nobody else has from then on.
fn take(chip: &File, offsets: &[u32], flags: LineFlags) -> Result<File, Fault> {
    let mut request = LineRequest {
        consumer: Name::from_bytes(CONSUMER.as_bytes()),
        num_lines: offsets.len() as u32,
        ..LineRequest::default()
    };
    request.offsets.copy_from_slice(offsets);
    request.config.flags = flags;
    v2::get_line(chip, request).map_err(|error| match os(&error) {
        // There is no such line on that chip.
        Some(libc::EINVAL) => Fault::Absent,
        _ => meaning(&error),
    })
}

fn os(error: &Error) -> Option<i32> {
    match error {
        Error::Os(errno) => Some(errno.0),
        Error::UnderRead(_) => None,
    }
}

fn meaning(error: &Error) -> Fault {
    os(error).map_or(Fault::Bus, |errno| {
        fault(&io::Error::from_raw_os_error(errno))
    })
}

/// A button or a switch on one line.
pub struct LineContact {
    line: File,
    edges: Option<AsyncFd<File>>,
}

impl LineContact {
    /// On this line. With `to_ground` it is pulled up, and closed when it is low; otherwise the other way round.
    ///
    /// # Errors
    /// There is no such line, or somebody has it.
    pub fn new(chip: &File, offset: u32, to_ground: bool) -> Result<Self, Fault> {
        let level = match to_ground {
            true => LineFlags::BIAS_PULL_UP | LineFlags::ACTIVE_LOW,
            false => LineFlags::BIAS_PULL_DOWN,
        };
        let edges = LineFlags::EDGE_RISING | LineFlags::EDGE_FALLING;
        Ok(Self {
            line: take(chip, &[offset], LineFlags::INPUT | level | edges)?,
            edges: None,
        })
    }

    /// Waits for an edge, and takes all that there are.
    async fn edge(&mut self) -> Result<(), Fault> {
        if self.edges.is_none() {
            let watched = self.line.try_clone().map_err(|error| fault(&error))?;
            // SAFETY: a `File` owns its descriptor, which is the same until it is dropped, together with this.
            let watched = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) };
            self.edges = Some(watched.map_err(|error| fault(&error.into()))?);
        }
        let edges = self.edges.as_ref().expect("made just now");
        loop {
            let mut ready = edges.readable().await.map_err(|error| fault(&error))?;
            let mut seen = false;
            while has_event(edges.get_ref()).map_err(|error| meaning(&error))? {
                let mut events = [0; 64];
                read_event(edges.get_ref(), &mut events).map_err(|error| meaning(&error))?;
                seen = true;
            }
            ready.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}

impl Contact for LineContact {
    fn is_closed(&mut self) -> Result<bool, Fault> {
        let mut values = LineValues::from_slice(&[true]);
        let read = v2::get_line_values(&self.line, &mut values);
        read.map(|()| values.get(0) == Some(true))
            .map_err(|error| meaning(&error))
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            if self.edge().await.is_err() {
                self.edges = None;
                // Should the line read well all the same.
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        })
    }
}

/// An LED on one line, or one of three colours on three.
pub struct LineLight {
    held: File,
    lines: usize,
}

impl LineLight {
    /// On these lines: one, or red, green and blue. With `active_low` an LED shines when its line is low. It is dark.
    ///
    /// # Errors
    /// There are no such lines, or somebody has one of them.
    pub fn new(chip: &File, offsets: &[u32], active_low: bool) -> Result<Self, Fault> {
        let level = match active_low {
            true => LineFlags::ACTIVE_LOW,
            false => LineFlags::empty(),
        };
        Ok(Self {
            held: take(chip, offsets, LineFlags::OUTPUT | level)?,
            lines: offsets.len(),
        })
    }
}

impl StatusLight for LineLight {
    fn set(&mut self, colour: Rgb) -> Result<(), Fault> {
        let lit = match self.lines {
            1 => vec![colour.is_lit()],
            _ => on_or_off(colour).to_vec(),
        };
        let values = LineValues::from_slice(&lit);
        v2::set_line_values(&self.held, &values).map_err(|error| meaning(&error))
    }
}

/// What three LEDs that are on or off show for a colour: each that has more than a third of the strongest.
fn on_or_off(colour: Rgb) -> [bool; 3] {
    let parts = [colour.red, colour.green, colour.blue].map(u16::from);
    let strongest = parts.into_iter().max().unwrap_or(0);
    parts.map(|part| 3 * part > strongest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_sysfs::made::machine;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn colours_stay_apart_on_lights_that_are_on_or_off() {
        assert_eq!(on_or_off(Rgb::BLACK), [false; 3]);
        assert_eq!(on_or_off(Rgb::new(160, 70, 0)), [true, true, false]);
        assert_eq!(on_or_off(Rgb::new(160, 0, 0)), [true, false, false]);
        assert_eq!(on_or_off(Rgb::new(60, 60, 60)), [true; 3]);
    }

    #[test]
    fn a_chip_behind_a_bus_is_told_from_one_of_the_board_s_own() {
        let (root, machine) = machine(&[]);
        let at = |path: &str| root.path().join(path);
        for (chip, device) in [
            ("gpiochip0", "devices/platform/axi/1f000d0000.gpio"),
            ("gpiochip1", "devices/platform/1f00074000.i2c/i2c-1/1-0020"),
        ] {
            let subsystem = if device.contains("i2c-1") {
                "i2c"
            } else {
                "platform"
            };
            let device = at("sys").join(device);
            std::fs::create_dir_all(device.join(chip)).unwrap();
            let link = Path::new("../../bus").join(subsystem);
            symlink(link, device.join("subsystem")).unwrap();
            std::fs::create_dir_all(at("sys/bus/gpio/devices")).unwrap();
            symlink(device.join(chip), at("sys/bus/gpio/devices").join(chip)).unwrap();
        }
        assert!(!is_behind(&machine, "gpiochip0"));
        assert!(is_behind(&machine, "gpiochip1"));
        assert!(!is_behind(&machine, "gpiochip2"));
    }

    #[test]
    fn a_chip_that_is_not_there_is_absent_and_what_is_no_chip_is_not_taken_for_one() {
        let (_root, machine) = machine(&[("/dev/gpiochip0", "no chip")]);
        assert_eq!(chip(&machine, |_| true).err(), Some(Fault::Absent));
    }
}
