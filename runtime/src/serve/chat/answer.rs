//! Answers in OpenAI's shape, whole or in chunks.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloister_engine::{Completion, FinishReason, ToolCall};
use serde_json::{Value, json};

use crate::serve::ask::Cut;

/// What every chunk of one answer carries.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn new(model: &str) -> Self {
        let id = format!(
            "chatcmpl-{:016x}",
            RandomState::new().build_hasher().finish()
        );
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs());
        Self {
            id,
            created,
            model: model.to_owned(),
        }
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// A whole answer.
pub struct Answer {
    head: Head,
    content: String,
    reasoning: String,
    calls: Vec<Value>,
    cut: Option<Cut>,
}

impl Answer {
    pub fn new(model: &str, cut: Option<Cut>) -> Self {
        Self {
            cut,
            head: Head::new(model),
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
        }
    }

    pub fn push(&mut self, content: &str, reasoning: &str) {
        self.content += content;
        self.reasoning += reasoning;
    }

    pub fn call(&mut self, call: &ToolCall) {
        self.calls.push(called(call));
    }

    pub fn finish(self, completion: &Completion) -> Value {
        let mut message = json!({"role": "assistant", "content": self.content});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.into();
        }
        if !self.calls.is_empty() {
            if message["content"] == "" {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = self.calls.into();
        }
        let choices = json!([{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish_reason(completion),
        }]);
        let mut answer = self.head.object("chat.completion", choices);
        if let Some(cut) = self.cut {
            answer["truncated"] = cut.to_json();
        }
        answer["usage"] = usage(completion);
        answer["timings"] = timings(completion);
        answer
    }
}

/// An answer in chunks.
pub struct Chunks {
    head: Head,
    began: bool,
    called: usize,
}

impl Chunks {
    pub fn new(model: &str) -> Self {
        Self {
            head: Head::new(model),
            began: false,
            called: 0,
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        self.head.object("chat.completion.chunk", choices)
    }

    fn delta(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        let choice =
            json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        self.chunk(json!([choice]))
    }

    /// What was cut of the conversation.
    pub fn truncated(&self, cut: Cut) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["truncated"] = cut.to_json();
        chunk
    }

    /// The place in the queue; 1 is next.
    pub fn queue(&self, position: usize) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["queue"] = json!({ "position": position });
        chunk
    }

    /// How far the prompt has been read, in tokens.
    pub fn prompt_progress(
        &self,
        total: usize,
        cached: usize,
        processed: usize,
        elapsed: Duration,
    ) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["prompt_progress"] = json!({
            "total": total,
            "cache": cached,
            "processed": processed,
            "time_ms": millis(elapsed),
        });
        chunk
    }

    /// What the first chunk says of all.
    fn opened(&mut self) -> Value {
        match std::mem::replace(&mut self.began, true) {
            false => json!({"role": "assistant"}),
            true => json!({}),
        }
    }

    /// A call of a tool, in a chunk of its own.
    pub fn call(&mut self, call: &ToolCall) -> Value {
        let mut delta = self.opened();
        let mut called = called(call);
        called["index"] = self.called.into();
        self.called += 1;
        delta["tool_calls"] = json!([called]);
        self.delta(delta, None)
    }

    /// New text; the first carries the role.
    pub fn text(&mut self, content: &str, reasoning: &str) -> Value {
        let mut delta = self.opened();
        if !reasoning.is_empty() {
            delta["reasoning_content"] = reasoning.into();
        }
        if !content.is_empty() {
            delta["content"] = content.into();
        }
        self.delta(delta, None)
    }

    /// The role, for an answer of which no text has come.
    pub fn begin(&mut self) -> Option<Value> {
        (!self.began).then(|| self.text("", ""))
    }

    /// The end: an empty delta with the reason.
    pub fn finish(&self, completion: &Completion) -> Value {
        let mut chunk = self.delta(json!({}), Some(finish_reason(completion)));
        chunk["timings"] = timings(completion);
        chunk
    }

    /// Tokens used, in a chunk of its own after the end.
    pub fn usage(&self, completion: &Completion) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage(completion);
        chunk
    }
}

/// A call as clients read it: with a name of its own, and its arguments as text.
fn called(call: &ToolCall) -> Value {
    json!({
        "id": format!("call_{:016x}", RandomState::new().build_hasher().finish()),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

fn finish_reason(completion: &Completion) -> &'static str {
    match completion.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Length => "length",
    }
}

fn usage(completion: &Completion) -> Value {
    let usage = completion.usage;
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

fn timings(completion: &Completion) -> Value {
    let timings = completion.timings;
    json!({
        "prompt_n": timings.prompt_tokens,
        "prompt_ms": millis(timings.prompt),
        "prompt_per_second": timings.prompt_per_second(),
        "predicted_n": completion.usage.completion,
        "forced_n": timings.forced_tokens,
        "draft_n": timings.drafted_tokens,
        "draft_n_accepted": timings.accepted_tokens,
        "predicted_ms": millis(timings.predicted),
        "predicted_per_second": timings.predicted_per_second(),
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
