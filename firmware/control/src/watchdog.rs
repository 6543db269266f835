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
/// While it does not work, its self-test has to pass so often; systemd starts a `serve` again before that.
pub const TESTED: Millis = Millis::seconds(300);

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
    answered: Option<Millis>,
    moved: Option<(Millis, Option<u64>)>,
    tested: Option<(Millis, u64)>,
}

impl Pulse {
    /// Takes what `serve` says; gives whether all is well.
    pub fn update(&mut self, now: Millis, signs: Signs) -> bool {
        if signs.answers {
            self.answered = Some(now);
        }
        let moved = match self.moved {
            Some((_, before)) if signs.working && signs.answers => before != signs.steps,
            _ => true,
        };
        if moved {
            self.moved = Some((now, signs.steps));
        }
        let tested = match self.tested {
            Some((_, before)) if !signs.working && signs.answers => before != signs.tests,
            _ => true,
        };
        if tested {
            self.tested = Some((now, signs.tests));
        }
        let fresh = |since: Option<Millis>, within: Millis| {
            since.is_none_or(|since| now.since(since) < within)
        };
        fresh(self.answered, AWAY)
            && fresh(self.moved.map(|(at, _)| at), STEP)
            && fresh(self.tested.map(|(at, _)| at), TESTED)
    }
}
