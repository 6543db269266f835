//! What `serve` is told: what is to hold, and how the board is.
//!
//! In: reports, as they change, and what is heard of `serve`. Out: `PUT /api/panel`, and how it is taken. One that does
//! otherwise than it was told, as it has forgotten that, is told again.

use std::time::Duration;

use cloister_client::{Error, Method};
use cloister_program::panel::PanelReport;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::{AGAIN, Heard, Link, SILENT};

/// What is told it takes at once: a `serve` that has not by then hangs, and one that refuses it for so long is none that this
/// panel can speak for.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// Figures change all the time; they are told so often.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
/// Told again even if nothing changes: `serve` forgets a panel that says nothing for 30 s.
pub(super) const AT_LEAST_EVERY: Duration = Duration::from_secs(10);
/// Told again to one that does otherwise. What it does is heard of within three seconds.
const OBEYS_WITHIN: Duration = Duration::from_secs(4);

/// How a `serve` that is there takes what it is told. Only its answer to that changes it: events may well come from one that
/// hangs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Takes {
    /// It obeys, or has not been asked yet.
    #[default]
    All,
    /// It has answered otherwise since then.
    Refuses(Instant),
    /// It has not answered.
    Nothing,
}

impl Link {
    /// Whether a `serve` that is there refuses what it is told, and has for a while.
    pub fn is_refused(&self) -> bool {
        matches!(*self.takes.borrow(), Takes::Refuses(since) if since.elapsed() >= HANGS_AFTER)
    }

    /// Says what is to hold, whenever that changes and to each `serve` that is heard anew, until dropped.
    pub async fn tell(
        &self,
        mut wishes: watch::Receiver<PanelReport>,
        mut heard: watch::Receiver<Option<Heard>>,
    ) {
        let mut said: Option<(PanelReport, Instant)> = None;
        loop {
            let wish = wishes.borrow_and_update().clone();
            let obeys =
                |told: &PanelReport| heard.borrow().as_ref().is_none_or(|of| of.obeys(told));
            let due = match &said {
                None => Instant::now(),
                Some((before, at)) if is_urgent(before, &wish) => (*at).min(Instant::now()),
                Some((before, at)) if !obeys(before) => *at + OBEYS_WITHIN,
                Some((before, at)) if *before != wish => *at + FIGURES_EVERY,
                Some((_, at)) => *at + AT_LEAST_EVERY,
            };
            tokio::select! {
                biased;
                () = sleep_until(due) => {
                    match self.say(wish.clone()).await {
                        Ok(_) => said = Some((wish, Instant::now())),
                        // One that comes back hears all of it again.
                        Err(_) => {
                            said = None;
                            sleep(AGAIN).await;
                        }
                    }
                }
                changed = wishes.changed() => if changed.is_err() { return },
                // The next one knows nothing of what this one was told.
                Ok(()) = heard.changed() => if heard.borrow_and_update().is_none() { said = None },
            }
        }
    }

    /// Says for the last time how the board is.
    pub async fn leave(&self, last: PanelReport) {
        // Who is not there misses nothing.
        let _ = self.say(last).await;
    }

    async fn say(&self, wish: PanelReport) -> Result<Value, Error> {
        let report = PanelReport {
            panel: self.number,
            ..wish
        };
        let body = serde_json::to_string(&report).expect("a report serializes");
        let asked = self.ask_within(SILENT, Method::PUT, "/api/panel", body);
        let answer = timeout(HANGS_AFTER, asked).await;
        let before = *self.takes.borrow();
        let takes = match (&answer, before) {
            (Err(_), _) => Takes::Nothing,
            (Ok(Ok(_)), _) => Takes::All,
            (Ok(Err(Error::Unreadable(_))), Takes::Refuses(since)) => Takes::Refuses(since),
            (Ok(Err(error @ Error::Unreadable(_))), _) => {
                warn!("serve does not do as the panel says: {error}");
                Takes::Refuses(Instant::now())
            }
            (Ok(Err(_)), before) => before,
        };
        self.takes
            .send_if_modified(|of| std::mem::replace(of, takes) != takes);
        answer.unwrap_or(Err(Error::Closed))
    }
}

/// Whether it cannot wait for the figures.
fn is_urgent(before: &PanelReport, wish: &PanelReport) -> bool {
    (
        before.private,
        before.throttle,
        &before.board.light,
        &before.board.problems,
    ) != (
        wish.private,
        wish.throttle,
        &wish.board.light,
        &wish.board.problems,
    )
}
