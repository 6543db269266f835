//! What a small display shows, and how it is kept from burning in.
//!
//! In: that somebody pressed the button, or that the box works. Out: a page, and by how much it is moved. OLEDs age where they
//! shine: nothing stays in its place for longer than a minute, and a box that nobody looks at is dark.

use crate::units::Millis;

/// Somebody who pressed a button looks for so long.
const LOOKS_FOR: Millis = Millis::seconds(60);
/// After its work the box shows its figures for so long.
const AFTER_WORK: Millis = Millis::seconds(300);
const MOVES_EVERY: Millis = Millis::seconds(60);
/// Where a page is moved to, one after the other, in pixels.
const PLACES: [(u8, u8); 4] = [(0, 0), (2, 0), (2, 2), (0, 2)];

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Nothing: dark.
    Dark,
    /// Model, tokens per second, temperature, queue.
    Figures,
    /// The address to open.
    Address,
    /// A new pairing code.
    Code,
    /// The first half of the fingerprint of the certificate at that address.
    FingerprintBegin,
    /// The second half.
    FingerprintEnd,
}

impl Page {
    /// What the next press shows, of who looks at this one.
    const fn next(self) -> Self {
        match self {
            Self::Address => Self::Code,
            Self::Code => Self::FingerprintBegin,
            Self::FingerprintBegin => Self::FingerprintEnd,
            Self::Dark | Self::Figures | Self::FingerprintEnd => Self::Address,
        }
    }
}

/// A page and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The page.
    pub page: Page,
    /// By how many pixels it is moved to the right and down: 0 to 2.
    pub moved: (u8, u8),
}

/// The display's law.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    /// What somebody asked for by pressing, and when.
    asked: Option<(Page, Millis)>,
    worked: Option<Millis>,
}

impl Pages {
    /// Takes whether the button was pressed for a moment just now, and whether the box works; says what to show, and when
    /// that changes by itself. Of a box that works a press is to stop an answer, and turns no page: what is shown stays.
    pub fn update(&mut self, now: Millis, pressed: bool, working: bool) -> (View, Millis) {
        if working {
            self.worked = Some(now);
        }
        self.asked = self
            .asked
            .filter(|(_, since)| now.since(*since) < LOOKS_FOR);
        if pressed && !working {
            let before = self.asked.map_or(Page::Dark, |(page, _)| page);
            self.asked = Some((before.next(), now));
        }
        let worked = self.worked.map(|since| since + AFTER_WORK);
        let (page, end) = match (self.asked, worked.filter(|end| now < *end)) {
            (Some((page, since)), _) => (page, Some(since + LOOKS_FOR)),
            (None, Some(end)) => (Page::Figures, Some(end)),
            (None, None) => (Page::Dark, None),
        };
        let step = now.0 / MOVES_EVERY.0;
        let moved = PLACES[(step % PLACES.len() as u64) as usize];
        let moves = Millis((step + 1) * MOVES_EVERY.0);
        let view = View { page, moved };
        (view, end.unwrap_or(moves).min(moves))
    }
}
