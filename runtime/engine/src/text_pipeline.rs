//! From the bytes of tokens to what a client sees: whole characters, the thought apart from the answer, and
//! the answer ended before a stop sequence.

use crate::decoder::Utf8Decoder;
use crate::reasoning::{Parted, Splitter, Stage};
use crate::stop::StopMatcher;

/// Bytes of tokens in; reasoning and answer out, ended by stop sequences (in the answer only).
pub struct TextPipeline {
    utf8: Utf8Decoder,
    splitter: Splitter,
    stop: StopMatcher,
    stopped: bool,
}

impl TextPipeline {
    /// For an answer that begins at `stage`.
    pub fn new(stage: Stage, stop: Vec<String>) -> Self {
        Self {
            utf8: Utf8Decoder::default(),
            splitter: Splitter::new(stage),
            stop: StopMatcher::new(stop),
            stopped: false,
        }
    }

    /// Whether the text so far ends inside a thought.
    pub fn thinking(&self) -> bool {
        self.splitter.thinking()
    }

    /// Whether a thought has ended and nothing has come after it.
    pub fn thought_has_just_ended(&self) -> bool {
        self.splitter.just_ended()
    }

    /// Takes the bytes of a token. Gives out what is certain, and whether a stop sequence was met.
    pub fn push(&mut self, bytes: &[u8]) -> (Parted, bool) {
        let text = self.utf8.push(bytes);
        let Parted { reasoning, content } = self.splitter.push(&text);
        let (content, stopped) = self.stop.push(&content);
        self.stopped = stopped;
        (Parted { reasoning, content }, stopped)
    }

    /// Gives out what was held back.
    pub fn finish(&mut self) -> Parted {
        if self.stopped {
            return Parted::default();
        }
        let text = self.utf8.finish();
        let mut parted = self.splitter.push(&text);
        let rest = self.splitter.finish();
        parted.reasoning += &rest.reasoning;
        let (content, stopped) = self.stop.push(&(parted.content + &rest.content));
        parted.content = if stopped {
            content
        } else {
            content + &self.stop.finish()
        };
        parted
    }
}
