//! Parts R1's thought from its answer in a stream of text: `<think>` … `</think>`, also when the
//! prompt's template has opened the tag already.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space has come; a tag may follow.
    Start,
    Thinking,
    Answering,
}

/// New text, parted. Either may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parted {
    pub reasoning: String,
    pub content: String,
}

/// Splits one answer. Feed it text with [`Splitter::push`], then call [`Splitter::finish`].
pub struct Splitter {
    state: State,
    /// Text that cannot be told yet: a tag's beginning, or white space that may be trimmed.
    held: String,
    /// White space at the beginning of the current part is dropped until text comes.
    at_start: bool,
}

impl Splitter {
    /// `opened` when the prompt ends inside a thought.
    pub fn new(opened: bool) -> Self {
        let state = if opened {
            State::Thinking
        } else {
            State::Start
        };
        Self {
            state,
            held: String::new(),
            at_start: opened,
        }
    }

    /// Whether a rendered prompt ends inside a thought.
    pub fn opened_by(prompt: &str) -> bool {
        prompt.trim_end().ends_with(OPEN)
    }

    /// Whether the text so far ends inside a thought.
    pub fn thinking(&self) -> bool {
        self.state == State::Thinking
    }

    /// Takes the next piece of text and gives out what is certain.
    pub fn push(&mut self, text: &str) -> Parted {
        self.held.push_str(text);
        let mut out = Parted::default();
        if self.state == State::Start {
            let text = self.held.trim_start();
            if let Some(rest) = text.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.state = State::Thinking;
                self.at_start = true;
            } else if OPEN.starts_with(text) {
                return out;
            } else {
                self.state = State::Answering;
            }
        }
        if self.state == State::Thinking {
            if let Some(end) = self.held.find(CLOSE) {
                let rest = self.held.split_off(end + CLOSE.len());
                self.held.truncate(end);
                out.reasoning = self.without_leading_space();
                out.reasoning.truncate(out.reasoning.trim_end().len());
                self.held = rest;
                self.state = State::Answering;
                self.at_start = true;
            } else {
                // A tag's beginning may stand at the end, with white space before it that the end of
                // the thought would trim.
                let tag = longest_suffix_that_begins(&self.held, CLOSE);
                let certain = self.held[..self.held.len() - tag].trim_end().len();
                let rest = self.held.split_off(certain);
                out.reasoning = self.without_leading_space();
                self.held = rest;
            }
        }
        if self.state == State::Answering {
            out.content = self.without_leading_space();
        }
        out
    }

    /// Gives out what was held back.
    pub fn finish(&mut self) -> Parted {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking => Parted {
                reasoning: held.trim_end().to_owned(),
                content: String::new(),
            },
            State::Start | State::Answering => Parted {
                reasoning: String::new(),
                content: held,
            },
        }
    }

    fn without_leading_space(&mut self) -> String {
        let text = std::mem::take(&mut self.held);
        if !self.at_start {
            return text;
        }
        let trimmed = text.trim_start();
        self.at_start = trimmed.is_empty();
        trimmed.to_owned()
    }
}

/// Length in bytes of the longest end of `text` that is a proper beginning of `word`.
pub fn longest_suffix_that_begins(text: &str, word: &str) -> usize {
    (1..word.len().min(text.len() + 1))
        .rev()
        .find(|&n| text.as_bytes().ends_with(&word.as_bytes()[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `text` fed in pieces of `step` bytes (all of them ASCII here).
    fn split(opened: bool, text: &str, step: usize) -> (String, String) {
        let mut splitter = Splitter::new(opened);
        let mut all = Parted::default();
        for piece in text.as_bytes().chunks(step) {
            let parted = splitter.push(std::str::from_utf8(piece).expect("ASCII"));
            all.reasoning += &parted.reasoning;
            all.content += &parted.content;
        }
        let rest = splitter.finish();
        (all.reasoning + &rest.reasoning, all.content + &rest.content)
    }

    fn pair(reasoning: &str, content: &str) -> (String, String) {
        (reasoning.to_owned(), content.to_owned())
    }

    #[test]
    fn thought_and_answer_part_wherever_the_pieces_break() {
        let text = "<think>\nTwo and two\n\nis four.\n</think>\n\nFour </b>.\n";
        for step in 1..=text.len() {
            assert_eq!(
                split(false, text, step),
                pair("Two and two\n\nis four.", "Four </b>.\n"),
                "{step}"
            );
        }
    }

    #[test]
    fn a_tag_that_the_template_opened_counts() {
        assert!(Splitter::opened_by("<|Assistant|><think>\n"));
        assert!(!Splitter::opened_by("<|Assistant|>"));
        for step in 1..20 {
            assert_eq!(split(true, "Hm.</think>Yes.", step), pair("Hm.", "Yes."));
        }
    }

    #[test]
    fn an_answer_without_a_thought_is_left_as_it_is() {
        assert_eq!(
            split(false, "  Hello <think> there", 1),
            pair("", "  Hello <think> there")
        );
        assert_eq!(split(false, "<thin", 1), pair("", "<thin"));
    }

    #[test]
    fn an_empty_thought_leaves_the_answer() {
        assert_eq!(split(false, "<think>\n\n</think>\n\nHi", 3), pair("", "Hi"));
    }

    #[test]
    fn a_thought_that_never_ends_stays_a_thought() {
        assert_eq!(split(true, "so </thin", 2), pair("so </thin", ""));
    }
}
