//! What was looked for on a board, and what was found.

use cloister_control::device::Fault;

use super::{Board, Finding, Late, Outcome};
use crate::drivers::advice;

/// Why there is no device.
pub(super) const NONE: &str = "there is none";
/// What a tachometer is for.
pub(super) const SEES_IT_TURN: &str = "sees whether it turns";

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

    /// Asks a device, which opens it, what it is for; if there is none, that is `why`.
    pub(super) fn asks<D: ?Sized>(
        &mut self,
        what: &'static str,
        place: &str,
        device: &mut Late<D>,
        why: &str,
        act: impl FnOnce(&mut D) -> Result<String, Fault>,
    ) {
        let does = device.ask(act).and_then(Result::ok);
        let fault = device.fault().unwrap_or(Fault::Absent);
        self.looked(what, place, does.ok_or(fault), why);
    }

    /// Something was looked at: what it is for, or the fault of what does not answer; if it is absent, that is `why`.
    pub(super) fn looked(
        &mut self,
        what: &'static str,
        place: &str,
        does: Result<String, Fault>,
        why: &str,
    ) {
        match does {
            Ok(does) => self.found(what, place, &does),
            Err(Fault::Absent) => self.missing(what, place, why),
            Err(fault) => self.missing(what, place, advice(fault)),
        }
    }
}
