//! How long a model stays loaded that nobody asks.
//!
//! In: who asked it, and what each says of how long it should stay. Out: whether its time is over, which is when nobody's
//! is left: a client says how long it wants the model, never how long another one may have it. It must never be over
//! while somebody is answered.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use cloister_engine::Client;

/// How often a loaded model is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most clients that are remembered; of more, those count whose time ends last.
const MOST_CLIENTS: usize = 256;

/// A time to stay; `None` is for ever.
pub type Stay = Option<Duration>;

/// The time that the loaded model has.
pub struct Idle {
    /// Where no request says otherwise.
    usual: Stay,
    wishes: Mutex<Wishes>,
}

struct Wishes {
    /// When it was loaded, or last seen answering.
    since: Instant,
    /// Of each client that asked it, by its last request.
    of: Vec<(Client, Wish)>,
}

#[derive(Clone, Copy)]
struct Wish {
    stay: Stay,
    since: Instant,
}

impl Wish {
    /// What is left of it; `None` is for ever.
    fn left(self) -> Stay {
        let stay = self.stay?;
        Some(stay.saturating_sub(self.since.elapsed()))
    }

    fn is_over(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// Whether it ends later than another one.
    fn order(self) -> Duration {
        self.left().unwrap_or(Duration::MAX)
    }
}

impl Idle {
    pub fn new(usual: Stay) -> Self {
        let wishes = Wishes {
            since: Instant::now(),
            of: Vec::new(),
        };
        Self {
            usual,
            wishes: Mutex::new(wishes),
        }
    }

    /// The model has just been loaded: what was wished is gone with the one before.
    pub fn loaded(&self) {
        let mut wishes = self.lock();
        wishes.since = Instant::now();
        wishes.of.clear();
    }

    /// Somebody is being answered.
    pub fn not_now(&self) {
        let mut wishes = self.lock();
        let now = Instant::now();
        wishes.since = now;
        for (_, wish) in &mut wishes.of {
            wish.since = now;
        }
    }

    /// `client` asked and wants the model to stay so long after it, or as long as usual.
    pub fn asked(&self, client: &Client, stay: Option<Stay>) {
        let wish = Wish {
            stay: stay.unwrap_or(self.usual),
            since: Instant::now(),
        };
        let mut wishes = self.lock();
        wishes
            .of
            .retain(|(of, wish)| of != client && !wish.is_over());
        wishes.of.push((client.clone(), wish));
        if wishes.of.len() > MOST_CLIENTS {
            let ends = |i: &usize| wishes.of[*i].1.order();
            let first = (0..wishes.of.len()).min_by_key(ends);
            wishes.of.swap_remove(first.expect("there are some"));
        }
    }

    /// What the model's stay depends on: the wish that ends last, or the usual time where nobody has asked.
    fn last(&self) -> Wish {
        let wishes = self.lock();
        let all = wishes.of.iter().map(|(_, wish)| *wish);
        all.max_by_key(|wish| wish.order()).unwrap_or(Wish {
            stay: self.usual,
            since: wishes.since,
        })
    }

    /// Whether nobody has asked for as long as the model was to stay.
    pub fn is_over(&self) -> bool {
        self.last().is_over()
    }

    /// When that will be, if nobody asks.
    pub fn ends(&self) -> Option<SystemTime> {
        SystemTime::now().checked_add(self.last().left()?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wishes> {
        self.wishes.lock().expect("no panic while held")
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

    const AT_ONCE: Option<Stay> = Some(Some(Duration::ZERO));
    const FOR_EVER: Option<Stay> = Some(None);

    fn client(name: &str) -> Client {
        Client(name.to_owned())
    }

    #[test]
    fn what_a_request_says_holds_until_the_next_of_its_client() {
        let idle = Idle::new(None);
        assert!(!idle.is_over() && idle.ends().is_none());
        idle.asked(&client("a"), AT_ONCE);
        assert!(idle.is_over() && idle.ends().is_some());
        idle.asked(&client("a"), None);
        assert!(!idle.is_over());
        idle.asked(&client("a"), AT_ONCE);
        idle.loaded();
        assert!(!idle.is_over());
    }

    #[test]
    fn nobody_ends_the_time_of_another() {
        let hour = Some(Some(Duration::from_secs(3600)));
        let idle = Idle::new(Some(Duration::ZERO));
        idle.asked(&client("b"), hour);
        idle.asked(&client("a"), AT_ONCE);
        assert!(!idle.is_over());
        idle.asked(&client("b"), AT_ONCE);
        assert!(idle.is_over());
    }

    #[test]
    fn more_clients_than_are_remembered_do_not_end_a_longer_time() {
        let idle = Idle::new(Some(Duration::from_secs(60)));
        idle.asked(&client("patient"), FOR_EVER);
        for i in 0..2 * MOST_CLIENTS {
            idle.asked(&client(&i.to_string()), None);
        }
        assert!(idle.lock().of.len() <= MOST_CLIENTS && idle.ends().is_none());
    }
}
