//! How long a model stays loaded that nobody asks.
//!
//! In: that it was asked, and what its clients say of how long it should stay. Out: whether its time is over. It must
//! never be over while somebody is answered.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// How often a loaded model is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A time to stay; `None` is for ever.
pub type Stay = Option<Duration>;

/// The time that the loaded model has.
pub struct Idle {
    /// Where no request says otherwise.
    usual: Stay,
    now: Mutex<Now>,
}

struct Now {
    stay: Stay,
    since: Instant,
}

impl Idle {
    pub fn new(usual: Stay) -> Self {
        let now = Now {
            stay: usual,
            since: Instant::now(),
        };
        Self {
            usual,
            now: Mutex::new(now),
        }
    }

    /// Somebody asked, or is being answered.
    pub fn not_now(&self) {
        self.lock().since = Instant::now();
    }

    /// Somebody asked and wants the model to stay so long after it, or as long as usual.
    pub fn asked(&self, stay: Option<Stay>) {
        *self.lock() = Now {
            stay: stay.unwrap_or(self.usual),
            since: Instant::now(),
        };
    }

    /// Whether nobody has asked for as long as the model was to stay.
    pub fn is_over(&self) -> bool {
        let now = self.lock();
        now.stay.is_some_and(|stay| now.since.elapsed() >= stay)
    }

    /// When that will be, if nobody asks.
    pub fn ends(&self) -> Option<SystemTime> {
        let now = self.lock();
        SystemTime::now().checked_add(now.stay?.saturating_sub(now.since.elapsed()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().expect("no panic while held")
    }
}

/// A time to stay as Ollama's clients write it: seconds, or text such as `5m`; what is negative is for ever.
pub fn parse(text: &str) -> Result<Stay, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(of_seconds(seconds));
    }
    let positive = text.strip_prefix('-');
    let time = humantime::parse_duration(positive.unwrap_or(text));
    let time = time.map_err(|_| format!("{text:?} is neither seconds nor a time such as 5m"))?;
    Ok(positive.is_none().then_some(time))
}

/// What is negative is for ever, and so is what no duration can hold.
pub fn of_seconds(seconds: f64) -> Stay {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_stays_for_seconds_a_duration_or_for_ever() {
        for (given, stays) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("90", Some(90)),
            ("1h30m", Some(5400)),
            ("-1", None),
            ("-1m", None),
        ] {
            assert_eq!(parse(given), Ok(stays.map(Duration::from_secs)), "{given}");
        }
        for wrong in ["soon", "", "-", "5 apples"] {
            parse(wrong).expect_err("refused");
        }
    }

    #[test]
    fn what_a_request_says_holds_until_the_next() {
        let idle = Idle::new(None);
        assert!(!idle.is_over() && idle.ends().is_none());
        idle.asked(Some(Some(Duration::ZERO)));
        assert!(idle.is_over() && idle.ends().is_some());
        idle.asked(None);
        assert!(!idle.is_over());
    }
}
