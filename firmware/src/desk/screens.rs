//! What the display shows: the pages of `cloister_control::display` in words.
//!
//! In: a page, what `serve` says. Out: lines of text. A pairing code is asked for when its page is turned to, and forgotten
//! when it is left.

use std::sync::Arc;

use cloister_control::display::{Page, View};
use cloister_control::units::{Celsius, TokensPerSecond};
use tokio::sync::watch;

use crate::board::Screen;
use crate::link::{Door, Heard, Link};

/// Digits of a fingerprint in a line.
const DIGITS: usize = 16;

/// The pages, and what `serve` was asked for them.
pub struct Screens {
    page: Page,
    door: watch::Sender<Option<Door>>,
    code: watch::Sender<Option<String>>,
}

impl Default for Screens {
    fn default() -> Self {
        Self {
            page: Page::Dark,
            door: watch::Sender::default(),
            code: watch::Sender::default(),
        }
    }
}

impl Screens {
    /// Turns to this page, and asks `serve` for what is on it.
    pub fn turn_to(&mut self, page: Page, link: &Arc<Link>) {
        if std::mem::replace(&mut self.page, page) == page {
            return;
        }
        self.code.send_replace(None);
        let link = link.clone();
        match page {
            Page::Dark | Page::Figures => {}
            Page::Address | Page::FingerprintBegin | Page::FingerprintEnd => {
                let door = self.door.clone();
                tokio::spawn(async move { door.send_replace(link.door().await) });
            }
            Page::Code => {
                let code = self.code.clone();
                tokio::spawn(async move { code.send_replace(link.new_code().await) });
            }
        }
    }

    /// Comes when `serve` has said something that is on a page.
    pub fn news(&self) -> impl Future<Output = ()> + use<> {
        let (mut door, mut code) = (self.door.subscribe(), self.code.subscribe());
        async move {
            let _ = tokio::select! {
                news = door.changed() => news,
                news = code.changed() => news,
            };
        }
    }

    /// What is on the page; nothing when it is dark.
    pub fn screen(
        &self,
        view: View,
        temperature: Option<Celsius>,
        heard: Option<&Heard>,
        (columns, rows): (usize, usize),
    ) -> Option<Screen> {
        let door = self.door.borrow();
        let mut lines = match view.page {
            Page::Dark => return None,
            Page::Figures => figures(temperature, heard),
            Page::Address => address(door.as_ref(), columns),
            Page::Code => code(self.code.borrow().as_deref()),
            Page::FingerprintBegin => fingerprint(door.as_ref(), 0),
            Page::FingerprintEnd => fingerprint(door.as_ref(), 1),
        };
        lines.truncate(rows);
        for line in &mut lines {
            *line = line.chars().take(columns).collect();
        }
        let moved = view.moved;
        Some(Screen { lines, moved })
    }
}

fn figures(temperature: Option<Celsius>, heard: Option<&Heard>) -> Vec<String> {
    let model = heard.and_then(|of| of.model.clone());
    let temperature = temperature.map_or_else(|| "?".to_owned(), |of| format!("{:.0}", of.0));
    vec![
        model.unwrap_or_else(|| "no model".to_owned()),
        heard.map_or(TokensPerSecond(0.0), Heard::speed).to_string(),
        format!(
            "{temperature} °C, {} waiting",
            heard.map_or(0, Heard::waiting)
        ),
    ]
}

fn address(door: Option<&Door>, columns: usize) -> Vec<String> {
    // What most addresses begin with stands apart, so that the rest is in one line.
    let url = door.map_or("...", |door| &door.url);
    let (scheme, rest) = match url.find("//") {
        Some(at) => url.split_at(at + 2),
        None => ("", url),
    };
    let letters: Vec<char> = rest.chars().collect();
    let rest = letters.chunks(columns.max(1)).map(String::from_iter);
    std::iter::once(format!("open {scheme}"))
        .chain(rest)
        .collect()
}

fn code(code: Option<&str>) -> Vec<String> {
    let code = code.map_or_else(|| "...".to_owned(), in_groups);
    vec![
        "pairing code:".to_owned(),
        code,
        "for ten minutes".to_owned(),
    ]
}

/// One half of it: 32 digits.
fn fingerprint(door: Option<&Door>, half: usize) -> Vec<String> {
    let Some(fingerprint) = door.and_then(|door| door.fingerprint.as_ref()) else {
        return vec!["no certificate:".to_owned(), "not encrypted".to_owned()];
    };
    let digits: Vec<char> = fingerprint.chars().filter(|c| *c != ':').collect();
    let lines = digits.chunks(DIGITS).map(String::from_iter);
    let of_half = lines.skip(half * 2).take(2);
    let title = format!("fingerprint, {} of 2", half + 1);
    [title]
        .into_iter()
        .chain(of_half.map(|line: String| in_groups(&line)))
        .collect()
}

/// In groups of four, as one reads them.
fn in_groups(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let groups = letters.chunks(4).map(String::from_iter);
    groups.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest display's.
    const SIZE: (usize, usize) = (21, 3);

    fn shows(screens: &Screens, page: Page) -> Vec<String> {
        let view = View {
            page,
            moved: (0, 2),
        };
        let screen = screens.screen(view, Some(Celsius(51.4)), None, SIZE);
        screen.map_or_else(Vec::new, |screen| screen.lines)
    }

    #[test]
    fn all_of_it_is_on_the_smallest_display() {
        let screens = Screens::default();
        assert_eq!(shows(&screens, Page::Dark), [""; 0]);
        assert_eq!(
            shows(&screens, Page::Figures),
            ["no model", "0.0 tokens/s", "51 °C, 0 waiting"]
        );
        let pairs: Vec<String> = (0..32).map(|n| format!("{:02X}", n * 8)).collect();
        screens.door.send_replace(Some(Door {
            url: "https://cloister.local:8080".to_owned(),
            fingerprint: Some(pairs.join(":")),
        }));
        assert_eq!(
            shows(&screens, Page::Address),
            ["open https://", "cloister.local:8080"]
        );
        assert_eq!(
            shows(&screens, Page::FingerprintBegin),
            [
                "fingerprint, 1 of 2",
                "0008 1018 2028 3038",
                "4048 5058 6068 7078"
            ]
        );
        assert_eq!(
            shows(&screens, Page::FingerprintEnd),
            [
                "fingerprint, 2 of 2",
                "8088 9098 A0A8 B0B8",
                "C0C8 D0D8 E0E8 F0F8"
            ]
        );
        assert_eq!(shows(&screens, Page::Code)[1], "...");
        screens.code.send_replace(Some("12345678".to_owned()));
        assert_eq!(shows(&screens, Page::Code)[1], "1234 5678");
    }
}
