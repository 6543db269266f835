//! What holds an engine back from outside: that it shall answer nobody, end what it answers, or be slower.
//!
//! In: the wishes of whoever watches over the box. Out: for the scheduler, whom to end and how long to pause. One is
//! shared by all engines of a process, so that a model that is loaded later is held back, too.
//! Must never let a request through that came after it was closed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::error::GenerateError;

/// Why nobody is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The owner's privacy switch is on.
    Private,
    /// There is one, and nobody says where it stands.
    Unheard,
    /// The box is too hot.
    TooHot,
}

/// How fast an engine may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// As fast as it can.
    #[default]
    Full,
    /// With three quarters of its work in the same time.
    ThreeQuarters,
    /// With half of it.
    Half,
    /// With a quarter of it.
    Quarter,
}

impl Pace {
    /// The share of its work.
    pub(crate) fn share(self) -> f64 {
        match self {
            Self::Full => 1.0,
            Self::ThreeQuarters => 0.75,
            Self::Half => 0.5,
            Self::Quarter => 0.25,
        }
    }

    /// How many of `n` threads compute, and the share of the time that they do. Fewer threads first: what is bound by
    /// memory hardly gets slower by that, and cooler all the same.
    pub(crate) fn threads(self, n: usize) -> (usize, f64) {
        let share = self.share();
        let threads = (n as f64 * share).ceil().max(1.0);
        (threads as usize, (n as f64 * share / threads).min(1.0))
    }
}

/// The wishes. Cheap to ask; nothing of it blocks for longer than another call takes.
#[derive(Debug, Default)]
pub struct Restraint {
    wishes: Mutex<Wishes>,
    changed: Condvar,
    /// Requests that were ever handed in, each with its number; and up to which of them all are to end.
    submitted: AtomicU64,
    stopped_up_to: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Wishes {
    private: Option<bool>,
    too_hot: bool,
    pace: Pace,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            private: Some(false),
            too_hot: false,
            pace: Pace::Full,
        }
    }
}

impl Restraint {
    /// Whether the privacy switch is on: then every request ends with [`GenerateError::Private`]; while nobody knows, with
    /// [`GenerateError::Unheard`].
    pub fn set_private(&self, private: Option<bool>) {
        self.change(|wishes| wishes.private = private);
    }

    /// Whether the privacy switch is on; none while nobody knows. Off where there is none.
    pub fn private(&self) -> Option<bool> {
        self.wishes().private
    }

    /// How fast engines may be; `None`: not at all, and every request ends with [`GenerateError::TooHot`].
    pub fn set_pace(&self, pace: Option<Pace>) {
        self.change(|wishes| {
            wishes.too_hot = pace.is_none();
            wishes.pace = pace.unwrap_or(Pace::Quarter);
        });
    }

    /// Ends every request that there is now, with [`GenerateError::StoppedByHand`].
    pub fn stop_all(&self) {
        let upto = self.submitted.load(Ordering::SeqCst);
        self.stopped_up_to.fetch_max(upto, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Why nobody is answered, if so.
    pub fn closed(&self) -> Option<Closed> {
        let wishes = self.wishes();
        match (wishes.private, wishes.too_hot) {
            (Some(true), _) => Some(Closed::Private),
            (None, _) => Some(Closed::Unheard),
            (Some(false), true) => Some(Closed::TooHot),
            (Some(false), false) => None,
        }
    }

    /// How fast engines may be.
    pub fn pace(&self) -> Pace {
        self.wishes().pace
    }

    /// The number of one more request: a stop ends those that have one.
    pub fn submit(&self) -> u64 {
        self.submitted.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Why the request of this number is to end, if so.
    pub fn ends(&self, number: u64) -> Option<GenerateError> {
        match self.closed() {
            Some(Closed::Private) => Some(GenerateError::Private),
            Some(Closed::Unheard) => Some(GenerateError::Unheard),
            Some(Closed::TooHot) => Some(GenerateError::TooHot),
            None if number <= self.stopped_up_to.load(Ordering::SeqCst) => {
                Some(GenerateError::StoppedByHand)
            }
            None => None,
        }
    }

    /// Waits for so long, or until something changes.
    pub(crate) fn pause(&self, time: Duration) {
        let wishes = self.wishes();
        drop(self.changed.wait_timeout(wishes, time));
    }

    fn change(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes());
        self.changed.notify_all();
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_threads_and_pauses_make_the_share_together() {
        for n in 1..=8 {
            for (pace, share) in [
                (Pace::Full, 1.0),
                (Pace::ThreeQuarters, 0.75),
                (Pace::Half, 0.5),
                (Pace::Quarter, 0.25),
            ] {
                let (threads, time) = pace.threads(n);
                assert!((1..=n).contains(&threads) && time > 0.0);
                let made = threads as f64 * time / n as f64;
                assert!((made - share).abs() < 1e-9, "{pace:?} of {n}: {made}");
            }
        }
    }

    #[test]
    fn a_stop_ends_what_there_is_and_nothing_that_comes_later() {
        let restraint = Restraint::default();
        let first = restraint.submit();
        restraint.stop_all();
        let second = restraint.submit();
        assert!(matches!(
            restraint.ends(first),
            Some(GenerateError::StoppedByHand)
        ));
        assert!(restraint.ends(second).is_none());
    }

    #[test]
    fn privacy_wins_over_heat_and_both_end_whatever_comes() {
        let restraint = Restraint::default();
        restraint.set_pace(None);
        let number = restraint.submit();
        assert!(matches!(
            restraint.ends(number),
            Some(GenerateError::TooHot)
        ));
        restraint.set_private(None);
        assert!(matches!(
            restraint.ends(number),
            Some(GenerateError::Unheard)
        ));
        restraint.set_private(Some(true));
        assert!(matches!(
            restraint.ends(number),
            Some(GenerateError::Private)
        ));
        restraint.set_pace(Some(Pace::Full));
        assert_eq!(restraint.closed(), Some(Closed::Private));
        restraint.set_private(Some(false));
        assert!(restraint.ends(number).is_none());
    }
}
