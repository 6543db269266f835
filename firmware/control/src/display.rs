//! What a small display shows, and how it is kept from burning in.
//!
//! In: that somebody touched the box, or that it works. Out: a page, and by how much it is moved. OLEDs age where they
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
    /// The address to open, and the fingerprint of the certificate there.
    Address,
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
    touched: Option<Millis>,
    worked: Option<Millis>,
}

impl Pages {
    /// Takes whether a button was pressed just now, and whether the box works; says what to show and when that changes
    /// by itself.
    pub fn update(&mut self, now: Millis, touched: bool, working: bool) -> (View, Millis) {
        if touched {
            self.touched = Some(now);
        }
        if working {
            self.worked = Some(now);
        }
        let ends = |since: Option<Millis>, lasts: Millis| {
            since.map(|since| since + lasts).filter(|end| now < *end)
        };
        let (page, end) = match (ends(self.touched, LOOKS_FOR), ends(self.worked, AFTER_WORK)) {
            (Some(end), _) if !working => (Page::Address, Some(end)),
            (_, Some(end)) => (Page::Figures, Some(end)),
            _ => (Page::Dark, None),
        };
        let step = now.0 / MOVES_EVERY.0;
        let moved = PLACES[(step % PLACES.len() as u64) as usize];
        let moves = Millis((step + 1) * MOVES_EVERY.0);
        (View { page, moved }, end.unwrap_or(moves).min(moves))
    }
}
