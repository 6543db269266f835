//! What a request hears from the engine while it is worked on.

use std::time::Duration;

use crate::GenerateError;
use crate::tools::ToolCall;

/// One step of a request's life. After [`Event::Done`] or [`Event::Failed`] nothing follows.
#[derive(Clone, Debug)]
pub enum Event {
    /// Waiting for a slot; 1 is next.
    Queued {
        /// Place in the queue, from 1.
        position: usize,
    },
    /// The prompt is being read.
    Prefill {
        /// Tokens of the prompt.
        total: usize,
        /// Of these, taken over from an earlier request.
        cached: usize,
        /// Of these, done (cached ones included).
        processed: usize,
        /// Since the slot began with it.
        elapsed: Duration,
    },
    /// New text. Either part may be empty, never both.
    Text {
        /// Of the answer.
        content: String,
        /// Of the thought before it.
        reasoning: String,
    },
    /// The model calls a tool.
    Call(ToolCall),
    /// The answer is complete.
    Done(Completion),
    /// There will be no answer.
    Failed(GenerateError),
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop sequence came.
    Stop,
    /// The model ended its turn, in which it called tools.
    ToolCalls,
    /// `max_tokens` or the context was used up.
    Length,
}

/// How a finished request went.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens used.
    pub usage: Usage,
    /// Time used.
    pub timings: Timings,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, taken over from an earlier request.
    pub cached: usize,
    /// Tokens generated, reasoning included.
    pub completion: usize,
    /// Of these, within the thought.
    pub reasoning: usize,
}

/// Time that the engine spent on one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Tokens of the prompt that were computed (not taken over).
    pub prompt_tokens: usize,
    /// From the slot's begin to the first token.
    pub prompt: Duration,
    /// Tokens generated after the first.
    pub predicted_tokens: usize,
    /// From the first token to the last.
    pub predicted: Duration,
    /// Generated tokens that had to be as they are, and so were not drawn.
    pub forced_tokens: usize,
    /// Tokens that were computed ahead of what might come.
    pub drafted_tokens: usize,
    /// Of these, those that came.
    pub accepted_tokens: usize,
}

impl Timings {
    /// Prompt tokens per second.
    pub fn prompt_per_second(&self) -> f64 {
        per_second(self.prompt_tokens, self.prompt)
    }

    /// Generated tokens per second.
    pub fn predicted_per_second(&self) -> f64 {
        per_second(self.predicted_tokens, self.predicted)
    }
}

fn per_second(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        tokens as f64 / time.as_secs_f64()
    }
}
