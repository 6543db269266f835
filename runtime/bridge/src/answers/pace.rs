//! How fast answers come, which tells how long a full queue takes.

use super::Moment;

/// How fast answers come, by the latest few.
#[derive(Default)]
pub struct Pace {
    last: Option<Moment>,
    mean_ms: f64,
}

impl Pace {
    /// An answer came.
    pub fn answered(&mut self, now: Moment) {
        if let Some(last) = self.last.replace(now) {
            // A pause without asks says nothing of the pace.
            let took = (now - last).clamp(0, 60_000) as f64;
            self.mean_ms = if self.mean_ms == 0.0 {
                took
            } else {
                0.8 * self.mean_ms + 0.2 * took
            };
        }
    }

    /// Seconds until a tenth of those who wait will be answered; at least one.
    pub fn wait(&self, now: Moment, waiting: u64) -> u64 {
        let since = self.last.map_or(0, |last| (now - last).clamp(0, 60_000)) as f64;
        let each = self.mean_ms.max(since / 10.0);
        ((each * waiting as f64 / 10.0 / 1000.0).ceil() as u64).clamp(1, 3600)
    }
}
