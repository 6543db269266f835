//! The privacy switch: what it says, what `serve` has done about it, and whether that may be shown.
//!
//! Turned on, it holds at once: a contact that bounces is no reason to hear one more prompt. Turned off, it holds once
//! that has lasted. A switch that no longer answers stays as it was; one that has never answered is on, as nobody can
//! say that it is off.

use crate::button::Debounced;
use crate::device::Fault;
use crate::units::Millis;

/// How long `serve` may take to do as the switch says before that is a fault.
pub const WITHIN: Millis = Millis(1500);

/// The switch.
#[derive(Clone, Copy, Debug)]
pub struct PrivacySwitch {
    contact: Debounced,
    on: bool,
    /// Since when `serve` does otherwise.
    disobeyed: Option<Millis>,
}

/// What follows from the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whether prompts are to be refused.
    pub private: bool,
    /// Whether `serve` still does otherwise, for longer than it may.
    pub ignored: bool,
    /// When to look again even if nothing changes.
    pub again: Option<Millis>,
}

impl Default for PrivacySwitch {
    fn default() -> Self {
        Self {
            contact: Debounced::default(),
            on: true,
            disobeyed: None,
        }
    }
}

impl PrivacySwitch {
    /// Takes a reading of the contact, closed for private, and what `serve` says that it does, if it says anything.
    pub fn update(
        &mut self,
        now: Millis,
        contact: Result<bool, Fault>,
        serve: Option<bool>,
    ) -> Decided {
        let mut settles = None;
        if let Ok(closed) = contact {
            let (stable, again) = self.contact.update(now, closed);
            self.on = closed || stable;
            settles = again;
        }
        if serve == Some(self.on) {
            self.disobeyed = None;
        } else {
            self.disobeyed.get_or_insert(now);
        }
        let due = self.disobeyed.map(|since| since + WITHIN);
        let ignored = due.is_some_and(|due| now >= due);
        Decided {
            private: self.on,
            ignored,
            again: crate::button::earliest([settles, due.filter(|_| !ignored)]),
        }
    }
}
