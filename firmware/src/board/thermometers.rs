//! Thermometers that the kernel has names for: zones and chips, found when they are there, and sought until then.
//!
//! In: names. Out: thermometers of a [`Board`], what all of them say, also those that are not there.

use cloister_control::device::{Fault, Thermometer};
use cloister_control::thermal::{MAX_SENSORS, Sample};
use cloister_control::units::Celsius;
use cloister_sysfs::class::Class;
use cloister_sysfs::hwmon;
use cloister_sysfs::thermal::Zone;

use super::bind::{all, place};
use super::devices::{Name, Named};
use super::findings::NONE;
use super::{Board, Late, Sensor};

impl Board {
    /// What all thermometers say, each at its place. Those that the owner has wired and that are not there say nothing.
    pub fn temperatures(&mut self) -> impl Iterator<Item = Sample> {
        let limit = self.limits.limit;
        let there = self.thermometers.iter_mut().filter_map(|of| {
            Some(Sample {
                reading: of.device.ask(|device| device.read())?,
                limit: of.limit,
                on_die: of.on_die,
            })
        });
        let sought = self.sought.iter();
        there.chain(sought.filter_map(move |sought| silent(sought, limit)))
    }

    /// Whether one more can be followed, which is told where it cannot. Those that the owner has wired and that are to come
    /// keep theirs.
    pub(super) fn has_place(&mut self, place: &str, wired: bool) -> bool {
        let waits = self.sought.iter().filter(|sought| sought.wired);
        let taken = self.thermometers.len() + if wired { 0 } else { waits.count() };
        if taken < MAX_SENSORS {
            return true;
        }
        self.missing(
            "temperature",
            place,
            &format!("{MAX_SENSORS} others are followed: no more can be"),
        );
        self.wired_beyond |= wired;
        false
    }

    /// Looks again for thermometers that are named and were not there.
    pub fn look_again(&mut self) {
        let before = self.findings.len();
        for sought in std::mem::take(&mut self.sought) {
            sought.look(self);
        }
        // Findings are of the start.
        self.findings.truncate(before);
    }
}

/// Thermometers that the kernel has names for.
pub struct Sought {
    kind: &'static str,
    class: Class,
    named: Named,
    /// Whether the owner has wired them.
    pub wired: bool,
}

/// What it says as long as it is not there, and the owner has wired it.
fn silent(sought: &Sought, limit: Celsius) -> Option<Sample> {
    sought.wired.then_some(Sample {
        reading: Err(Fault::Absent),
        limit,
        on_die: sought.named.on_die,
    })
}

impl Sought {
    /// Of this class, those of the names or of those that are known.
    pub(super) fn new(
        kind: &'static str,
        (class, known): (Class, &[&str]),
        named: &Named,
        wired: bool,
    ) -> Self {
        Self {
            kind,
            class,
            named: Named {
                names: Name::or(&named.names, known),
                ..named.clone()
            },
            wired,
        }
    }

    /// Binds all that are there now; if none is, they are sought again later.
    pub fn look(self, board: &mut Board) {
        let found = all(&self.class, &self.named.names);
        if found.is_empty() {
            board.missing("temperature", &place(self.kind, &self.named.names), NONE);
            return board.sought.push(self);
        }
        for device in found {
            let name = device.name().to_owned();
            let place = format!("{} {name}", self.kind);
            if !board.has_place(&place, self.wired) {
                continue;
            }
            let kind = self.kind;
            let open = move || {
                let device = device.clone();
                Ok(match kind {
                    "zone" => Box::new(Zone(device)) as Box<dyn Thermometer>,
                    _ => Box::new(hwmon::Temperature {
                        chip: device,
                        channel: 1,
                    }),
                })
            };
            let (what, does) = ("temperature", "cools by it");
            let device: Late<dyn Thermometer> = if self.named.on_die {
                // It is on no bus, and no reading of it is too fresh.
                let mut device = Late::new(true, open);
                board.asks(what, &place, &mut device, NONE, |device| {
                    Ok(format!("{does}; now {}", device.read()?))
                });
                device
            } else {
                let device = board.reads(what, does, (&place, NONE), open, <dyn Thermometer>::read);
                device.late(true, || Ok(()), |device| Box::new(device))
            };
            board.thermometers.push(Sensor {
                name,
                limit: self.named.limit.map_or(board.limits.limit, Celsius),
                on_die: self.named.on_die,
                device,
            });
        }
    }
}
