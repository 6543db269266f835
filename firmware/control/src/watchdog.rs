//! Whether the machine is well, so that the watchdogs are fed.
//!
//! In: whether `serve` answers, and whether its step counter moves while it works. Out: whether to feed. A box that is
//! busy, private, too hot or loading is well; one whose `serve` is gone for longer than any restart, or computes
//! nothing though it says that it works, is reset.

use crate::units::Millis;

/// `serve` may be away for so long: systemd starts it again, and it loads its model.
pub const AWAY: Millis = Millis::seconds(300);
/// One step may take so long: a slice of a long prompt on a slow board.
pub const STEP: Millis = Millis::seconds(120);

/// What the watchdog has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    answered: Option<Millis>,
    moved: Option<(Millis, Option<u64>)>,
}

impl Pulse {
    /// Takes whether `serve` answers, whether it works and may, and its count of computed steps. Says whether all is
    /// well.
    pub fn update(
        &mut self,
        now: Millis,
        answers: bool,
        working: bool,
        steps: Option<u64>,
    ) -> bool {
        if answers || self.answered.is_none() {
            self.answered = Some(now);
        }
        let moved = match self.moved {
            Some((_, before)) if working && answers => before != steps,
            _ => true,
        };
        if moved {
            self.moved = Some((now, steps));
        }
        let fresh = |since: Option<Millis>, within: Millis| {
            since.is_none_or(|since| now.since(since) < within)
        };
        fresh(self.answered, AWAY) && fresh(self.moved.map(|(at, _)| at), STEP)
    }
}
