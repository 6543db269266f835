//! Whether the machine is well, so that the watchdogs are fed.
//!
//! In: whether `serve` answers, whether its step counter moves while it works, and whether its self-test passes while it
//! does not. Out: whether to feed. A box that is busy, private, too hot or loading is well, and so is one whose `serve`
//! has not been there yet: a reset would not bring it. One whose `serve` is gone for longer than any restart, or computes
//! nothing though it says that it works or could, is reset.

use crate::units::Millis;

/// `serve` may be away for so long: systemd starts it again, and it loads its model.
pub const AWAY: Millis = Millis::seconds(300);
/// One step may take so long: a slice of a long prompt on a slow board.
pub const STEP: Millis = Millis::seconds(120);
/// While it does not work, its self-test has to pass so often. One may fail after 180 s, and so may the next: only a third
/// has no time left. systemd starts a `serve` again before that.
pub const TESTED: Millis = Millis::seconds(600);

/// What `serve` says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// Whether it answers.
    pub answers: bool,
    /// Whether it says that it works, and may.
    pub working: bool,
    /// How many steps it has computed.
    pub steps: Option<u64>,
    /// How many of its self-tests have passed.
    pub tests: u64,
}

/// What the watchdog has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    at: Millis,
    answered: Option<Millis>,
    moved: Option<(Millis, Option<u64>)>,
    tested: Option<(Millis, u64)>,
}

impl Pulse {
    /// Takes what `serve` says; gives whether all is well.
    pub fn update(&mut self, now: Millis, signs: Signs) -> bool {
        let span = now.since(self.at);
        self.at = now;
        if signs.answers {
            self.answered = Some(now);
            let same_steps = self.moved.is_some_and(|(_, before)| before == signs.steps);
            if !(signs.working && same_steps) {
                self.moved = Some((now, signs.steps));
            }
            let same_tests = self.tested.is_some_and(|(_, before)| before == signs.tests);
            if signs.working || !same_tests {
                self.tested = Some((now, signs.tests));
            }
        } else {
            // What it does while nobody hears it counts neither for nor against it: so none that is lost time and again
            // hides that it computes nothing.
            let moved = self.moved.as_mut().map(|(at, _)| at);
            let tested = self.tested.as_mut().map(|(at, _)| at);
            for at in moved.into_iter().chain(tested) {
                *at = *at + span;
            }
        }
        let fresh = |since: Option<Millis>, within: Millis| {
            since.is_none_or(|since| now.since(since) < within)
        };
        fresh(self.answered, AWAY)
            && fresh(self.moved.map(|(at, _)| at), STEP)
            && fresh(self.tested.map(|(at, _)| at), TESTED)
    }
}
