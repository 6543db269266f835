//! What a press of a button means.
//!
//! In: whether the contact is closed, whenever that changes or might have. Out: a [`Press`]. Contacts bounce, so that a
//! change counts once it has lasted; one that is closed from the start, or for ever, is a fault and not a wish.

use crate::units::Millis;

/// How long a contact has to stay as it is before that counts.
pub const DEBOUNCE: Millis = Millis(25);
/// Held for so long, it is a long press, at once.
pub const LONG: Millis = Millis::seconds(3);
/// Held for so long, it is stuck.
pub const STUCK: Millis = Millis::seconds(30);

/// What was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// Pressed and let go.
    Short,
    /// Held for [`LONG`].
    Long,
}

/// A contact without its bouncing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debounced {
    /// What counts; none before the first reading.
    stable: Option<bool>,
    /// What it has been since when, where that differs.
    candidate: Option<(bool, Millis)>,
}

impl Debounced {
    /// Takes a reading; says what counts, and when to look again.
    pub fn update(&mut self, now: Millis, closed: bool) -> (bool, Option<Millis>) {
        let Some(stable) = self.stable else {
            self.stable = Some(closed);
            return (closed, None);
        };
        if closed == stable {
            self.candidate = None;
            return (stable, None);
        }
        let since = match self.candidate {
            Some((level, since)) if level == closed => since,
            _ => now,
        };
        if now.since(since) >= DEBOUNCE {
            self.stable = Some(closed);
            self.candidate = None;
            return (closed, None);
        }
        self.candidate = Some((closed, since));
        (stable, Some(since + DEBOUNCE))
    }
}

/// A button.
#[derive(Clone, Copy, Debug, Default)]
pub struct Button {
    contact: Debounced,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nothing is known yet.
    #[default]
    Unknown,
    Open,
    /// Held since then.
    Held(Millis),
    /// Held, and nothing more will come of it until it is let go; since then.
    Spent(Millis),
}

/// What a button has to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What was meant, at this moment.
    pub press: Option<Press>,
    /// Whether it has been held for longer than anybody means.
    pub stuck: bool,
    /// When to look again even if nothing changes.
    pub again: Option<Millis>,
}

impl Button {
    /// Takes a reading: whether the contact is closed now.
    pub fn update(&mut self, now: Millis, closed: bool) -> Heard {
        let (closed, again) = self.contact.update(now, closed);
        let (state, press) = match (self.state, closed) {
            // Held from the start: nobody has pressed it.
            (State::Unknown, true) => (State::Spent(now), None),
            (State::Open, true) => (State::Held(now), None),
            (State::Held(since), true) if now.since(since) >= LONG => {
                (State::Spent(since), Some(Press::Long))
            }
            (State::Held(_), false) => (State::Open, Some(Press::Short)),
            (State::Unknown | State::Open | State::Spent(_), false) => (State::Open, None),
            (state, true) => (state, None),
        };
        self.state = state;
        let (stuck, due) = match state {
            State::Unknown | State::Open => (false, None),
            State::Held(since) => (false, Some(since + LONG)),
            State::Spent(since) if now.since(since) >= STUCK => (true, None),
            State::Spent(since) => (false, Some(since + STUCK)),
        };
        let again = earliest([again, due]);
        Heard {
            press,
            stuck,
            again,
        }
    }
}

/// The first of some moments.
pub fn earliest(moments: impl IntoIterator<Item = Option<Millis>>) -> Option<Millis> {
    moments.into_iter().flatten().min()
}
