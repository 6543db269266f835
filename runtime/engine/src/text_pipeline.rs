//! From the bytes of tokens to what a client sees: whole characters, the thought apart from the answer, and
//! calls apart from both, and the answer ended before a stop sequence.

use crate::decoder::Utf8Decoder;
use crate::reasoning::{Parted, Splitter, Stage};
use crate::stop::StopMatcher;
use crate::tools::{CallSplitter, ToolCall};

/// Bytes of tokens in; reasoning and answer out, ended by stop sequences (in the answer only).
pub struct TextPipeline {
    utf8: Utf8Decoder,
    splitter: Splitter,
    /// Where calls are to be expected.
    calls: Option<CallSplitter>,
    stop: StopMatcher,
    stopped: bool,
}

impl TextPipeline {
    /// For an answer that begins at `stage`.
    pub fn new(stage: Stage, stop: Vec<String>, calls: &[String]) -> Self {
        Self {
            utf8: Utf8Decoder::default(),
            splitter: Splitter::new(stage),
            calls: (!calls.is_empty()).then(|| CallSplitter::new(calls)),
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

    /// Whether the answer has called a tool.
    pub fn called(&self) -> bool {
        self.calls.as_ref().is_some_and(CallSplitter::called)
    }

    /// What has come of the first call, if it has begun.
    pub fn call_begun(&self) -> Option<&str> {
        self.calls.as_ref()?.begun()
    }

    /// Takes the bytes of a token. Gives out what is certain, and whether a stop sequence was met.
    pub fn push(&mut self, bytes: &[u8]) -> (Said, bool) {
        let text = self.utf8.push(bytes);
        let Parted { reasoning, content } = self.splitter.push(&text);
        let (content, calls) = match &mut self.calls {
            None => (content, Vec::new()),
            Some(splitter) => splitter.push(&content),
        };
        let (content, stopped) = self.stop.push(&content);
        self.stopped = stopped;
        let said = Said {
            text: Parted { reasoning, content },
            calls,
        };
        (said, stopped)
    }

    /// Gives out what was held back.
    pub fn finish(&mut self) -> Said {
        if self.stopped {
            return Said::default();
        }
        let text = self.utf8.finish();
        let Parted {
            mut reasoning,
            mut content,
        } = self.splitter.push(&text);
        let rest = self.splitter.finish();
        reasoning += &rest.reasoning;
        content += &rest.content;
        let mut calls = Vec::new();
        if let Some(splitter) = &mut self.calls {
            let (words, called) = splitter.push(&content);
            content = words + &splitter.finish();
            calls = called;
        }
        let (mut content, stopped) = self.stop.push(&content);
        if !stopped {
            content += &self.stop.finish();
        }
        Said {
            text: Parted { reasoning, content },
            calls,
        }
    }
}

/// What can be given out.
#[derive(Default)]
pub struct Said {
    pub text: Parted,
    pub calls: Vec<ToolCall>,
}
