//! The privacy switch: what it says, what `serve` has done about it, and whether that may be shown.
//!
//! Turned on, it holds at once: a contact that bounces is no reason to hear one more prompt. Turned off, it holds once
//! that has lasted. A switch that does not answer is on, as nobody can say that it is off; one that was off for
//! [`LOST`], as a line may be gone for a moment, and what is erased is gone for good.

use crate::button::Debounced;
use crate::device::Fault;
use crate::units::Millis;

/// How long `serve` may take to do as the switch says before that is a fault.
pub const WITHIN: Millis = Millis(1500);
/// How long a switch that was off may be without an answer.
pub const LOST: Millis = Millis::seconds(30);

/// The switch.
#[derive(Clone, Copy, Debug)]
pub struct PrivacySwitch {
    contact: Debounced,
    on: bool,
    /// Since when it does not answer.
    lost: Option<Millis>,
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
            lost: None,
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
        let settles = match contact {
            Ok(closed) => {
                let (stable, again) = self.contact.update(now, closed);
                (self.on, self.lost) = (closed || stable, None);
                again
            }
            Err(_) => {
                let due = *self.lost.get_or_insert(now) + LOST;
                self.on |= now >= due;
                Some(due).filter(|due| now < *due)
            }
        };
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
