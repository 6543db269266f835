//! Answers in the shape of `/api/chat` and `/api/generate`, whole or in pieces.

use std::time::{Duration, SystemTime};

use cloister_engine::{Completion, FinishReason, ToolCall};
use serde_json::{Value, json};

use super::{nanos, timestamp};

/// Where the text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In `message`.
    Chat,
    /// In `response`.
    Generate,
}

/// One answer of a model.
pub struct Answer {
    shape: Shape,
    model: String,
}

impl Answer {
    pub fn new(shape: Shape, model: &str) -> Self {
        Self {
            shape,
            model: model.to_owned(),
        }
    }

    /// New text of the answer and of the thought before it.
    pub fn piece(&self, content: &str, thought: &str) -> Value {
        let mut answer = json!({
            "model": self.model,
            "created_at": timestamp(SystemTime::now()),
        });
        let at = match self.shape {
            Shape::Chat => {
                answer["message"] = json!({"role": "assistant", "content": content});
                &mut answer["message"]
            }
            Shape::Generate => {
                answer["response"] = content.into();
                &mut answer
            }
        };
        if !thought.is_empty() {
            at["thinking"] = thought.into();
        }
        answer["done"] = false.into();
        answer
    }

    /// Calls of tools.
    pub fn calls(&self, calls: &[ToolCall]) -> Value {
        let call =
            |call: &ToolCall| json!({"function": {"name": call.name, "arguments": call.arguments}});
        let mut answer = self.piece("", "");
        answer["message"]["tool_calls"] = calls.iter().map(call).collect();
        answer
    }

    /// The end, with what has not been `said` before it. `total` is since the request came, `loading` the
    /// share of it that the model took to be there.
    pub fn end(
        &self,
        said: Value,
        completion: &Completion,
        total: Duration,
        loading: Duration,
    ) -> Value {
        let mut answer = said;
        let (usage, timings) = (completion.usage, completion.timings);
        answer["done"] = true.into();
        answer["done_reason"] = match completion.finish_reason {
            // Ollama has no other word for the end of a turn with calls.
            FinishReason::Stop | FinishReason::ToolCalls => "stop",
            FinishReason::Length => "length",
        }
        .into();
        answer["total_duration"] = nanos(total).into();
        answer["load_duration"] = nanos(loading).into();
        answer["prompt_eval_count"] = usage.prompt.into();
        answer["prompt_eval_duration"] = nanos(timings.prompt).into();
        answer["eval_count"] = usage.completion.into();
        answer["eval_duration"] = nanos(timings.predicted).into();
        answer
    }

    /// An end without a beginning: nothing was asked.
    pub fn without_text(&self, reason: &str) -> Value {
        let mut answer = self.piece("", "");
        answer["done"] = true.into();
        answer["done_reason"] = reason.into();
        answer
    }
}
