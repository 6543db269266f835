//! What the status light says: a rhythm for each state, and a colour that only helps.
//!
//! Rhythms alone tell the states apart, for who sees no colours or has a light of one. None has more than three flashes
//! in a second (WCAG 2.2, 2.3.1). Each is a repeated list of times, so that the light needs no work in between.

use crate::outputs::Shown;
use crate::units::Millis;

/// A colour, 0 to 255 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rgb {
    pub red: u8,
    pub green: u8,
    pub blue: u8,
}

impl Rgb {
    /// Dark.
    pub const BLACK: Self = Self::new(0, 0, 0);

    /// Of these parts.
    pub const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue }
    }

    /// Whether there is any light.
    pub const fn is_lit(self) -> bool {
        self.red | self.green | self.blue != 0
    }
}

/// A rhythm in a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// While it shines.
    pub colour: Rgb,
    /// Milliseconds lit, dark, lit, dark and so on, again and again. One alone: it shines all the time. Empty: it never
    /// does.
    pub rhythm: &'static [u16],
}

impl Pattern {
    /// How it looks so long after it began, and when after its beginning that changes; never, without a time.
    pub fn at(&self, elapsed: Millis) -> (Rgb, Option<Millis>) {
        let period: u64 = self.rhythm.iter().map(|part| u64::from(*part)).sum();
        match self.rhythm {
            [] => return (Rgb::BLACK, None),
            [_] => return (self.colour, None),
            _ => {}
        }
        let within = elapsed.0 % period;
        let mut end = 0;
        let mut lit = true;
        for part in self.rhythm {
            end += u64::from(*part);
            if within < end {
                break;
            }
            lit = !lit;
        }
        let colour = if lit { self.colour } else { Rgb::BLACK };
        (colour, Some(Millis(elapsed.0 - within + end)))
    }
}

/// The pattern of a state.
pub const fn pattern(shown: Shown) -> Pattern {
    let (colour, rhythm): (Rgb, &'static [u16]) = match shown {
        // Slow and even.
        Shown::Starting => (Rgb::new(60, 60, 60), &[1500, 1500]),
        // Steady.
        Shown::Ready => (Rgb::new(0, 60, 0), &[1]),
        // One flash, two, three: the further an answer is, the more.
        Shown::Reading => (Rgb::new(0, 80, 80), &[200, 1200]),
        Shown::Thinking => (Rgb::new(0, 0, 160), &[200, 200, 200, 1200]),
        Shown::Answering => (Rgb::new(0, 120, 0), &[200, 200, 200, 200, 200, 1200]),
        // Lit, with a short gap.
        Shown::TooHot => (Rgb::new(160, 70, 0), &[1800, 300]),
        // Hurried and even.
        Shown::Broken => (Rgb::new(160, 0, 0), &[200, 200]),
        // Dark but for a blink, as nothing is heard.
        Shown::Private => (Rgb::new(100, 0, 100), &[150, 4850]),
        // A long one and a short one.
        Shown::ShuttingDown => (Rgb::new(60, 60, 60), &[900, 250, 250, 250]),
    };
    Pattern { colour, rhythm }
}
