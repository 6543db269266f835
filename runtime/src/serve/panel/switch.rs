//! The privacy switch as it was heard of last, in a file of the state folder: a restart opens nothing.
//!
//! In: what panels say of it. Out: where it stands, and whether anybody has said so since the start.
//! Must never take a file that cannot be read, or says something else, for a switch that is off, nor forget one that was
//! there: nobody but the owner knows that it is gone, and removes the file.

use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

use cloister_program::private::replace;

/// The file in the state folder.
const FILE: &str = "private";
const OFF: &str = "off\n";

/// A switch.
pub struct Switch {
    file: PathBuf,
    stands: Stands,
    /// Whether that is what the file says, too.
    written: bool,
    heard: bool,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// This box has none.
    Nowhere,
    /// Prompts are taken.
    Off,
    /// They are not.
    On,
}

impl Switch {
    /// As the state folder has it.
    pub fn of(state: &Path) -> Self {
        let file = state.join(FILE);
        let stands = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Stands::Nowhere,
            Ok(text) if text == OFF => Stands::Off,
            _ => Stands::On,
        };
        Self {
            file,
            stands,
            written: true,
            heard: stands == Stands::Nowhere,
        }
    }

    /// Where it stands.
    pub fn stands(&self) -> Stands {
        self.stands
    }

    /// Whether that can be relied on: else it may have been turned, and nobody has said so.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// Nobody speaks for it any more.
    pub fn falls_silent(&mut self) {
        self.heard = self.stands == Stands::Nowhere;
    }

    /// Stands so by a panel's word; what is turned on stays so until it is said to be off.
    ///
    /// # Errors
    /// It would be forgotten at a restart. One that is turned off stays as it was then.
    pub fn turn(&mut self, on: bool) -> Result<()> {
        let stands = if on { Stands::On } else { Stands::Off };
        if on {
            self.written &= self.stands == Stands::On;
            (self.stands, self.heard) = (stands, true);
        }
        if self.stands != stands || !self.written {
            replace(&self.file, if on { "on\n" } else { OFF })?;
        }
        (self.stands, self.written, self.heard) = (stands, true, true);
        Ok(())
    }

    /// For logs.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_remembered_and_what_is_not_known_of_it_is_not_off() {
        let state = tempfile::tempdir().unwrap();
        let again = || Switch::of(state.path());
        let mut switch = again();
        assert!(switch.is_heard() && switch.stands() == Stands::Nowhere);
        for (said, stands) in [
            (false, Stands::Off),
            (true, Stands::On),
            (false, Stands::Off),
        ] {
            switch.turn(said).unwrap();
            assert!(switch.is_heard());
            assert_eq!((switch.stands(), again().stands()), (stands, stands));
            assert!(!again().is_heard());
            switch.falls_silent();
            assert!(!switch.is_heard());
            assert_eq!((switch.stands(), again().stands()), (stands, stands));
        }
        for broken in ["", "of", "off"] {
            std::fs::write(switch.file(), broken).unwrap();
            assert_eq!(again().stands(), Stands::On, "{broken:?}");
        }
    }

    #[test]
    fn what_could_not_be_written_is_on_and_is_written_with_the_next_report() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("gone");
        let mut switch = Switch::of(&folder);
        assert!(switch.turn(true).is_err());
        assert_eq!(switch.stands(), Stands::On);
        assert!(switch.turn(false).is_err());
        assert_eq!(switch.stands(), Stands::On, "a restart would not know");
        std::fs::create_dir(&folder).unwrap();
        switch.turn(true).unwrap();
        assert_eq!(Switch::of(&folder).stands(), Stands::On);
    }
}
