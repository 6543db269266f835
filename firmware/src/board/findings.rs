//! What was looked for on a board, and what was found.

use cloister_control::device::{Fault, Thermometer};
use cloister_control::units::Celsius;

use super::{Board, Finding, Outcome, Sensor};
use crate::drivers::advice;

impl Board {
    fn finds(&mut self, what: &'static str, place: &str, outcome: Outcome) {
        self.findings.push(Finding {
            what,
            place: place.to_owned(),
            outcome,
        });
    }

    /// Something is there, and this is what it is for.
    pub(super) fn found(&mut self, what: &'static str, place: &str, does: &str) {
        let does = does.to_owned();
        self.finds(what, place, Outcome::Found { does });
    }

    /// Something is not, for this reason.
    pub(super) fn missing(&mut self, what: &'static str, place: &str, why: &str) {
        let why = why.to_owned();
        self.finds(what, place, Outcome::Missing { why });
    }

    /// Adds a thermometer.
    pub(super) fn thermometer(
        &mut self,
        place: &str,
        name: String,
        limit: Option<f32>,
        on_die: bool,
        mut device: Box<dyn Thermometer>,
    ) {
        let reads = device.read().map(|now| format!("cools by it; now {now}"));
        self.tried("temperature", place, reads);
        self.thermometers.push(Sensor {
            name,
            limit: limit.map_or(self.limits.limit, Celsius),
            on_die,
            device,
        });
    }

    /// Something was tried.
    pub(super) fn tried(&mut self, what: &'static str, place: &str, does: Result<String, Fault>) {
        match does {
            Ok(does) => self.found(what, place, &does),
            Err(fault) => self.missing(what, place, advice(fault)),
        }
    }
}
