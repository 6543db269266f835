//! What panels have told lately.
//!
//! In: their reports. Out: what holds by them. A box has one panel; several are a mistake, and then the strictest word
//! holds: private if one says so, as slow as the slowest wants.

use std::time::{Duration, Instant};

use cloister_program::panel::{Board, PanelReport, Throttle};

/// A panel that has said nothing for so long is not there: its figures are old, and nobody cools by its word.
pub const SILENT: Duration = Duration::from_secs(30);

/// What holds by the reports of all panels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// Whether the box's privacy switch is on; none if no panel that is there has one. What one that has ended said of a switch
    /// that was off is no word of where that stands now.
    pub private: Option<bool>,
    /// Whether one is on that is simulated.
    pub simulated: bool,
    /// How far to slow down.
    pub throttle: Throttle,
}

/// The last report of each panel, the latest last.
#[derive(Default)]
pub struct Told(Vec<(Instant, PanelReport)>);

impl Told {
    /// Takes a report; gives what holds by it and the others.
    pub fn take(&mut self, now: Instant, report: PanelReport) -> Said {
        let known = self.0.iter().any(|(_, other)| other.panel == report.panel);
        // What one that has ended wanted holds until another one is there.
        self.0.retain(|(at, other)| {
            is_fresh(now, *at) && other.panel != report.panel && !other.leaves
        });
        if !known && !self.0.is_empty() {
            tracing::warn!(
                "another panel has spoken for this box within 30 s: until it is silent, prompts are taken only if \
                 neither switch is on, and the engine is as slow as the slower one wants"
            );
        }
        self.0.push((now, report));
        let said = |simulated| {
            let of = self.0.iter().map(|(_, report)| report);
            let of = of.filter(move |report| report.simulated == simulated);
            let private = |report: &PanelReport| report.private.filter(|on| *on || !report.leaves);
            of.filter_map(private).max()
        };
        Said {
            private: said(false),
            simulated: said(true) == Some(true),
            throttle: self.slowest(),
        }
    }

    /// The board, as the latest report has it.
    pub fn board(&self, now: Instant) -> Option<Board> {
        let (at, report) = self.0.last()?;
        is_fresh(now, *at).then(|| report.board.clone())
    }

    /// Once no panel is there any more, how far to slow down: as nobody would ever say that it is cool again, not more
    /// than by half; as it may be as hot as it was, by half if it was slowed.
    pub fn silenced(&mut self, now: Instant) -> Option<Throttle> {
        let slowest = self.slowest();
        let heard = !self.0.is_empty();
        self.0.retain(|(at, _)| is_fresh(now, *at));
        let half = Throttle::try_from(2).expect("a step");
        let step = if slowest.step() > 0 { half } else { slowest };
        (heard && self.0.is_empty()).then_some(step)
    }

    fn slowest(&self) -> Throttle {
        let steps = self.0.iter().map(|(_, report)| report.throttle);
        steps.max().unwrap_or_default()
    }
}

fn is_fresh(now: Instant, at: Instant) -> bool {
    now.duration_since(at) < SILENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(panel: u64, private: Option<bool>, step: u8) -> PanelReport {
        PanelReport {
            panel,
            private,
            throttle: Throttle::try_from(step).unwrap(),
            ..PanelReport::default()
        }
    }

    fn take(told: &mut Told, now: Instant, report: PanelReport) -> (Option<bool>, u8) {
        let said = told.take(now, report);
        (said.private, said.throttle.step())
    }

    #[test]
    fn of_two_panels_the_strictest_word_holds_for_as_long_as_both_are_there() {
        let (mut told, now) = (Told::default(), Instant::now());
        let of = |seconds| now + Duration::from_secs(seconds);
        let on = report(1, Some(true), 1);
        assert_eq!(take(&mut told, of(0), on.clone()), (Some(true), 1));
        let off = report(2, Some(false), 3);
        assert_eq!(take(&mut told, of(5), off.clone()), (Some(true), 3));
        assert_eq!(take(&mut told, of(10), on), (Some(true), 3));
        // Its own switch is off by now.
        let open = report(1, Some(false), 0);
        assert_eq!(take(&mut told, of(15), open), (Some(false), 3));
        assert_eq!(take(&mut told, of(50), off), (Some(false), 3));
        // One that has ended makes room for the next, and is no other one.
        let mut told = Told::default();
        let mut leaves = report(1, Some(true), 3);
        leaves.leaves = true;
        assert_eq!(take(&mut told, of(0), leaves), (Some(true), 3));
        let mut next = report(2, Some(false), 0);
        assert_eq!(take(&mut told, of(1), next.clone()), (Some(false), 0));
        next.leaves = true;
        assert_eq!(take(&mut told, of(2), next), (None, 0));
        // One that has no switch decides nothing.
        let mut told = Told::default();
        assert_eq!(take(&mut told, of(0), report(1, None, 0)), (None, 0));
        // One that goes on without a switch does not speak for another one that is silent.
        let mut told = Told::default();
        let off = report(1, Some(false), 0);
        assert_eq!(take(&mut told, of(0), off), (Some(false), 0));
        let none = report(2, None, 0);
        assert_eq!(take(&mut told, of(29), none.clone()), (Some(false), 0));
        assert_eq!(take(&mut told, of(31), none), (None, 0));
    }

    #[test]
    fn a_simulated_switch_is_no_word_of_the_box_s_own() {
        let (mut told, now) = (Told::default(), Instant::now());
        let mut simulated = report(1, Some(true), 0);
        simulated.simulated = true;
        let said = told.take(now, simulated.clone());
        assert_eq!((said.private, said.simulated), (None, true));
        simulated.private = Some(false);
        let said = told.take(now, simulated);
        assert_eq!((said.private, said.simulated), (None, false));
    }

    #[test]
    fn a_panel_that_was_slowing_the_engine_and_is_silent_leaves_it_at_half() {
        let (now, later) = (Instant::now(), Instant::now() + SILENT);
        for (step, left) in [(0, 0), (1, 2), (2, 2), (3, 2), (4, 2)] {
            let mut told = Told::default();
            take(&mut told, now, report(1, None, step));
            assert_eq!(told.silenced(now), None);
            let silenced = told.silenced(later + Duration::from_secs(1));
            assert_eq!(silenced.map(Throttle::step), Some(left), "of {step}");
            assert_eq!(told.silenced(later + Duration::from_secs(2)), None, "once");
            assert_eq!(told.board(later), None);
        }
    }
}
