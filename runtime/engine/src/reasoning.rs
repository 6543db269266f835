//! Parts R1's thought from its answer in a stream of text: `<think>` … `</think>`, also when the
//! prompt's template has opened the tag already.

const OPEN: &str = "<think>";
/// The tag that ends a thought.
pub const CLOSE: &str = "</think>";
/// What ends a thought that goes on too long, and begins the answer: as R1 writes it.
pub const CLOSING: &str = "\n</think>\n\n";

/// Makes a rendered prompt end in a thought, or after an empty one, where it does not yet.
pub fn begin(prompt: &mut String, think: bool) {
    let end = prompt.trim_end();
    match (think, end.ends_with(OPEN), end.ends_with(CLOSE)) {
        (true, true, _) | (false, _, true) => {}
        (true, false, _) => prompt.push_str("<think>\n"),
        (false, true, _) => prompt.push_str(CLOSING),
        (false, false, false) => prompt.push_str("<think>\n\n</think>\n\n"),
    }
}

/// Parts the text of a whole turn that begins with a thought: thought and answer.
pub fn part(text: &str) -> Option<(&str, &str)> {
    let (thought, answer) = text.trim_start().strip_prefix(OPEN)?.split_once(CLOSE)?;
    Some((thought.trim(), answer.trim_start()))
}

/// Where a turn of the assistant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing but white space has come; a tag may follow.
    Start,
    /// In the thought.
    Thinking,
    /// After it, with nothing of the answer yet. White space is dropped here, and so is a tag that closes
    /// what is closed, as models write where they were not let think.
    AfterThought,
    /// In the answer.
    Answering,
}

impl Stage {
    /// Where a rendered prompt ends.
    pub fn after(prompt: &str) -> Self {
        let end = prompt.trim_end();
        if end.ends_with(OPEN) {
            Self::Thinking
        } else if end.ends_with(CLOSE) {
            Self::AfterThought
        } else {
            Self::Start
        }
    }
}

/// New text, parted. Either may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parted {
    pub reasoning: String,
    pub content: String,
}

/// Splits one answer. Feed it text with [`Splitter::push`], then call [`Splitter::finish`].
pub struct Splitter {
    stage: Stage,
    /// Text that cannot be told yet: a tag's beginning, or white space that may be trimmed.
    held: String,
    /// White space at the beginning of a thought is dropped until text comes.
    at_start: bool,
    /// Whether there was a thought.
    thought: bool,
}

impl Splitter {
    /// For an answer to a prompt that ends at `stage`.
    pub fn new(stage: Stage) -> Self {
        Self {
            stage,
            held: String::new(),
            at_start: true,
            thought: stage == Stage::Thinking,
        }
    }

    /// Whether the text so far ends inside a thought.
    pub fn thinking(&self) -> bool {
        self.stage == Stage::Thinking
    }

    /// Whether a thought has ended and nothing has come after it, not even white space.
    pub fn just_ended(&self) -> bool {
        self.stage == Stage::AfterThought && self.held.is_empty() && self.thought
    }

    /// Takes the next piece of text and gives out what is certain.
    pub fn push(&mut self, text: &str) -> Parted {
        self.held.push_str(text);
        let mut out = Parted::default();
        while self.advance(&mut out) {}
        out
    }

    /// Moves what is certain from `held` to `out`; `true` when another stage has begun.
    fn advance(&mut self, out: &mut Parted) -> bool {
        match self.stage {
            Stage::Start | Stage::AfterThought => {
                let after = self.stage == Stage::AfterThought;
                let text = self.held.trim_start();
                let (stage, rest) = if let Some(rest) = text.strip_prefix(OPEN) {
                    (Stage::Thinking, rest)
                } else if after && let Some(rest) = text.strip_prefix(CLOSE) {
                    (Stage::AfterThought, rest)
                } else if OPEN.starts_with(text) || after && CLOSE.starts_with(text) {
                    return false;
                } else {
                    let answer = if after { text } else { self.held.as_str() };
                    (Stage::Answering, answer)
                };
                self.held = rest.to_owned();
                self.stage = stage;
                self.thought |= stage == Stage::Thinking;
                true
            }
            Stage::Thinking => {
                let end = self.held.find(CLOSE);
                // A tag's beginning may stand at the end, with white space before it that the end of the
                // thought would trim.
                let tag = longest_suffix_that_begins(&self.held, CLOSE);
                let certain = end.unwrap_or(self.held.len() - tag);
                let thought = self.held[..certain].trim_end();
                let begun = if self.at_start {
                    thought.trim_start()
                } else {
                    thought
                };
                self.at_start &= begun.is_empty();
                out.reasoning += begun;
                let rest = end.map_or(thought.len(), |end| end + CLOSE.len());
                self.held = self.held.split_off(rest);
                if end.is_some() {
                    self.stage = Stage::AfterThought;
                }
                end.is_some()
            }
            Stage::Answering => {
                out.content += &std::mem::take(&mut self.held);
                false
            }
        }
    }

    /// Gives out what was held back.
    pub fn finish(&mut self) -> Parted {
        let held = std::mem::take(&mut self.held);
        let mut out = Parted::default();
        match self.stage {
            Stage::Thinking => out.reasoning = held.trim_end().to_owned(),
            Stage::AfterThought => out.content = held.trim_start().to_owned(),
            Stage::Start | Stage::Answering => out.content = held,
        }
        out
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
    fn split(stage: Stage, text: &str, step: usize) -> (String, String) {
        let mut splitter = Splitter::new(stage);
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
                split(Stage::Start, text, step),
                pair("Two and two\n\nis four.", "Four </b>.\n"),
                "{step}"
            );
        }
    }

    #[test]
    fn a_tag_that_the_template_opened_counts() {
        assert_eq!(Stage::after("<|Assistant|><think>\n"), Stage::Thinking);
        assert_eq!(Stage::after("<think>\n</think>\n\n"), Stage::AfterThought);
        assert_eq!(Stage::after("<|Assistant|>"), Stage::Start);
        for step in 1..20 {
            assert_eq!(
                split(Stage::Thinking, "Hm.</think>Yes.", step),
                pair("Hm.", "Yes.")
            );
        }
    }

    #[test]
    fn an_answer_without_a_thought_is_left_as_it_is() {
        assert_eq!(
            split(Stage::Start, "  Hello <think> there", 1),
            pair("", "  Hello <think> there")
        );
        assert_eq!(split(Stage::Start, "<thin", 1), pair("", "<thin"));
    }

    #[test]
    fn an_empty_thought_leaves_the_answer() {
        assert_eq!(
            split(Stage::Start, "<think>\n\n</think>\n\nHi", 3),
            pair("", "Hi")
        );
    }

    #[test]
    fn a_thought_that_never_ends_stays_a_thought() {
        assert_eq!(
            split(Stage::Thinking, "so </thin", 2),
            pair("so </thin", "")
        );
    }

    #[test]
    fn tags_around_nothing_are_no_answer() {
        for step in 1..40 {
            for text in [
                "\n</think>\n\nHi",
                "Hi",
                "</think></think>Hi",
                "<think>\n\n</think>\n\nHi",
            ] {
                let parted = split(Stage::AfterThought, text, step);
                assert_eq!(parted, pair("", "Hi"), "{text:?}");
            }
        }
        assert_eq!(
            split(Stage::AfterThought, "<think>No.</think>Hi", 2),
            pair("No.", "Hi")
        );
    }
}
