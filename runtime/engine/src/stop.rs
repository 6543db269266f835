//! Ends an answer at the first stop sequence, without letting any part of one out.

use crate::reasoning::longest_suffix_that_begins;

/// Watches a stream of text for stop sequences.
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// Watches for `stops`, none of which may be empty.
    pub fn new(stops: Vec<String>) -> Self {
        debug_assert!(stops.iter().all(|stop| !stop.is_empty()));
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next text. Gives out what is certain, and whether a stop sequence was met.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stops.is_empty() {
            return (text.to_owned(), false);
        }
        self.held.push_str(text);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min()
        {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let hold = self
            .stops
            .iter()
            .map(|stop| longest_suffix_that_begins(&self.held, stop))
            .max();
        let rest = self.held.split_off(self.held.len() - hold.unwrap_or(0));
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Gives out what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect());
        let mut out = String::new();
        for piece in pieces {
            let (text, stopped) = matcher.push(piece);
            out += &text;
            if stopped {
                return (out, true);
            }
        }
        (out + &matcher.finish(), false)
    }

    #[test]
    fn text_ends_before_the_stop_sequence() {
        assert_eq!(
            run(&["END"], &["one E", "N", "D two"]),
            ("one ".to_owned(), true)
        );
    }

    #[test]
    fn the_earliest_of_several_wins() {
        assert_eq!(run(&["cc", "b"], &["aabcc"]), ("aa".to_owned(), true));
    }

    #[test]
    fn what_only_looked_like_a_stop_comes_out() {
        assert_eq!(
            run(&["END"], &["EN", "E", "EN"]),
            ("ENEEN".to_owned(), false)
        );
        assert_eq!(run(&["éé"], &["é", "è"]), ("éè".to_owned(), false));
    }
}
