//! An answer of `/v1/responses`: a list of items, which grows event by event.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_engine::{Completion, FinishReason, ToolCall};
use serde_json::{Map, Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::ask::Cut;

/// One answer. What adds to it gives the events that tell of it.
pub struct Output {
    /// What stays the same of the response.
    head: Map<String, Value>,
    items: Vec<Value>,
    open: Option<Open>,
    /// The number of the next event.
    sequence: u64,
}

/// The item that text is added to.
struct Open {
    id: String,
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Thought,
    Message,
}

impl Open {
    /// The part that holds the text.
    fn part(&self) -> Value {
        match self.kind {
            Kind::Thought => json!({"type": "reasoning_text", "text": self.text}),
            Kind::Message => {
                json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []})
            }
        }
    }

    /// The item, without parts while it is new.
    fn item(&self, status: &str) -> Value {
        let parts = match self.text.is_empty() {
            true => json!([]),
            false => json!([self.part()]),
        };
        match self.kind {
            Kind::Thought => {
                json!({"id": self.id, "type": "reasoning", "summary": [], "content": parts, "status": status})
            }
            Kind::Message => {
                json!({"id": self.id, "type": "message", "role": "assistant", "content": parts, "status": status})
            }
        }
    }

    /// `delta` or `done` of the text.
    fn event(&self, what: &str) -> String {
        let text = match self.kind {
            Kind::Thought => "reasoning_text",
            Kind::Message => "output_text",
        };
        format!("response.{text}.{what}")
    }
}

fn new_id(kind: &str) -> String {
    format!("{kind}_{:016x}", RandomState::new().build_hasher().finish())
}

fn now() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| age.as_secs())
}

impl Output {
    /// Of `model`, to a request of which `echo` is repeated and this was `cut`.
    pub fn new(model: &str, echo: Map<String, Value>, cut: Option<Cut>) -> Self {
        let mut head = echo;
        for (name, value) in [
            ("id", json!(new_id("resp"))),
            ("object", json!("response")),
            ("created_at", json!(now())),
            ("model", json!(model)),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
            ("previous_response_id", Value::Null),
            ("store", json!(false)),
            ("background", json!(false)),
        ] {
            head.insert(name.to_owned(), value);
        }
        if let Some(cut) = cut {
            head.insert("truncated".to_owned(), cut.to_json());
        }
        Self {
            head,
            items: Vec::new(),
            open: None,
            sequence: 0,
        }
    }

    /// The response so far, or complete.
    pub fn response(&self, completion: Option<&Completion>) -> Value {
        let mut response = self.head.clone();
        response.insert("output".to_owned(), self.items.clone().into());
        let cut_off = completion.is_some_and(|c| c.finish_reason == FinishReason::Length);
        let status = match completion {
            None => "in_progress",
            Some(_) if cut_off => "incomplete",
            Some(_) => "completed",
        };
        response.insert("status".to_owned(), status.into());
        if cut_off {
            let details = json!({"reason": "max_output_tokens"});
            response.insert("incomplete_details".to_owned(), details);
        }
        let usage = completion.map(|completion| {
            let usage = completion.usage;
            json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning},
                "total_tokens": usage.prompt + usage.completion,
            })
        });
        response.insert("usage".to_owned(), usage.into());
        response.into()
    }

    fn event(&mut self, kind: &str, mut event: Value) -> Value {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        event
    }

    /// The begin.
    pub fn begin(&mut self) -> Vec<Value> {
        ["response.created", "response.in_progress"]
            .map(|kind| {
                let response = self.response(None);
                self.event(kind, json!({ "response": response }))
            })
            .into()
    }

    /// New text of the answer and of the thought before it.
    pub fn text(&mut self, content: &str, reasoning: &str) -> Vec<Value> {
        let mut events = Vec::new();
        for (kind, text) in [(Kind::Thought, reasoning), (Kind::Message, content)] {
            if text.is_empty() {
                continue;
            }
            if self.open.as_ref().is_none_or(|open| open.kind != kind) {
                events.extend(self.close());
                events.extend(self.open(kind));
            }
            let at = self.items.len();
            let Some(open) = &mut self.open else { continue };
            open.text += text;
            let (name, id) = (open.event("delta"), open.id.clone());
            let delta = json!({
                "item_id": id, "output_index": at, "content_index": 0, "delta": text, "logprobs": [],
            });
            events.push(self.event(&name, delta));
        }
        events
    }

    fn open(&mut self, kind: Kind) -> [Value; 2] {
        let open = Open {
            id: new_id(match kind {
                Kind::Thought => "rs",
                Kind::Message => "msg",
            }),
            kind,
            text: String::new(),
        };
        let at = self.items.len();
        let (item, part, id) = (open.item("in_progress"), open.part(), open.id.clone());
        self.open = Some(open);
        let item = json!({"output_index": at, "item": item});
        let part = json!({"item_id": id, "output_index": at, "content_index": 0, "part": part});
        [
            self.event("response.output_item.added", item),
            self.event("response.content_part.added", part),
        ]
    }

    /// Ends the item that text was added to.
    pub fn close(&mut self) -> Vec<Value> {
        let Some(open) = self.open.take() else {
            return Vec::new();
        };
        let at = self.items.len();
        let place = json!({"item_id": open.id, "output_index": at, "content_index": 0});
        let (mut text, mut part) = (place.clone(), place);
        text["text"] = open.text.as_str().into();
        text["logprobs"] = json!([]);
        part["part"] = open.part();
        let item = open.item("completed");
        self.items.push(item.clone());
        vec![
            self.event(&open.event("done"), text),
            self.event("response.content_part.done", part),
            self.event(
                "response.output_item.done",
                json!({"output_index": at, "item": item}),
            ),
        ]
    }

    /// A call of a tool.
    pub fn call(&mut self, call: &ToolCall) -> Vec<Value> {
        let mut events = self.close();
        let at = self.items.len();
        let (id, arguments) = (new_id("fc"), call.arguments.to_string());
        let item = |arguments: &str, status: &str| {
            json!({
                "id": id, "type": "function_call", "call_id": id.replace("fc_", "call_"),
                "name": call.name, "arguments": arguments, "status": status,
            })
        };
        let (begun, done) = (item("", "in_progress"), item(&arguments, "completed"));
        let place = json!({"item_id": id, "output_index": at});
        let (mut delta, mut whole) = (place.clone(), place);
        delta["delta"] = arguments.as_str().into();
        whole["arguments"] = arguments.as_str().into();
        whole["name"] = call.name.as_str().into();
        self.items.push(done.clone());
        for (kind, event) in [
            (
                "response.output_item.added",
                json!({"output_index": at, "item": begun}),
            ),
            ("response.function_call_arguments.delta", delta),
            ("response.function_call_arguments.done", whole),
            (
                "response.output_item.done",
                json!({"output_index": at, "item": done}),
            ),
        ] {
            events.push(self.event(kind, event));
        }
        events
    }

    /// The end.
    pub fn end(&mut self, completion: &Completion) -> Vec<Value> {
        let mut events = self.close();
        let response = self.response(Some(completion));
        let kind = match completion.finish_reason {
            FinishReason::Length => "response.incomplete",
            _ => "response.completed",
        };
        events.push(self.event(kind, json!({ "response": response })));
        events
    }

    /// The end of an answer that does not come to its own.
    pub fn fail(&mut self, error: &ApiError) -> Vec<Value> {
        let mut events = self.close();
        let mut response = self.response(None);
        response["status"] = "failed".into();
        response["error"] = json!({"code": "server_error", "message": error.message()});
        events.push(self.event("response.failed", json!({ "response": response })));
        events
    }
}
