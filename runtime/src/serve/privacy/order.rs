//! The order to erase everything, until it is carried out.
//!
//! In: changes of it. Out: the same in a file of the state folder, whole or as it was before, so that neither a restart nor a
//! power cut takes it back. Must never take a file that says something else for none.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cloister_program::private::replace;

/// The order.
pub struct Order {
    /// Its number, until the bridge has said that it has erased its journal.
    pub bridge: Option<u64>,
    /// Whether this process still keeps something.
    pub own: bool,
    file: PathBuf,
}

impl Order {
    /// As the state folder has it: `NUMBER unfinished`, `-` for a bridge that is done.
    pub fn of(state: &Path) -> Self {
        let file = state.join("erase");
        let text = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => "-".to_owned(),
            // One that cannot be read is as good as another.
            text => text.unwrap_or_else(|_| "1 unfinished".to_owned()),
        };
        let mut words = text.split_whitespace();
        let bridge = match words.next() {
            Some("-") => None,
            number => Some(number.and_then(|number| number.parse().ok()).unwrap_or(1)),
        };
        let own = words.next().is_some();
        Self { bridge, own, file }
    }

    /// Whether anything is left to be erased.
    pub fn is_open(&self) -> bool {
        self.bridge.is_some() || self.own
    }

    /// Gives how many files could not be written.
    pub fn change(&mut self, change: impl FnOnce(&mut Self)) -> u64 {
        change(self);
        let written = match self.is_open() {
            true => {
                let number = self
                    .bridge
                    .map_or("-".to_owned(), |number| number.to_string());
                let own = if self.own { " unfinished" } else { "" };
                replace(&self.file, format!("{number}{own}\n"))
            }
            false => match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        let Err(error) = written else { return 0 };
        tracing::error!("{}: cannot be written: {error}", self.file.display());
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_stands_until_both_are_done_whatever_becomes_of_this_process() {
        let state = tempfile::tempdir().unwrap();
        let is = || {
            let order = Order::of(state.path());
            (order.bridge, order.own)
        };
        assert_eq!(is(), (None, false));
        let mut order = Order::of(state.path());
        order.change(|order| (order.bridge, order.own) = (Some(7), true));
        assert_eq!(is(), (Some(7), true));
        order.change(|order| order.bridge = None);
        assert_eq!(is(), (None, true));
        order.change(|order| (order.bridge, order.own) = (Some(8), false));
        assert_eq!(is(), (Some(8), false));
        order.change(|order| order.bridge = None);
        assert_eq!((is(), order.file.exists()), ((None, false), false));
        std::fs::write(&order.file, "\0").unwrap();
        assert_eq!(is(), (Some(1), false));
    }
}
