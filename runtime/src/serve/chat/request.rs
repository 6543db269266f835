//! What a client asks for, checked field by field.

use cloister_engine::{Message, Sampling};
use serde_json::{Value, json};

use super::thinking::Thinking;
use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

/// Most messages of one conversation.
const MAX_MESSAGES: usize = 4096;
/// Most stop sequences, and most bytes of one.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// A checked request.
#[derive(Debug)]
pub struct ChatRequest {
    pub model: Option<String>,
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    pub thinking: Thinking,
    pub stream: bool,
    pub include_usage: bool,
    pub return_progress: bool,
}

impl ChatRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// The first field that is wrong, unknown, or asks for what this server cannot do.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let messages = messages(fields.take("messages"))?;
        let tokens = |fields: &mut Fields, name| fields.integer(name, 1, i64::from(i32::MAX));
        let (new, old) = (
            tokens(&mut fields, "max_completion_tokens")?,
            tokens(&mut fields, "max_tokens")?,
        );
        let stream = fields.flag("stream")?;
        let include_usage = match fields.take("stream_options") {
            None => false,
            Some(value) => {
                let mut options = Fields::of(value, "stream_options")?;
                let include_usage = options.flag("include_usage")?;
                options.ignore(&["include_obfuscation"]);
                options.finish()?;
                include_usage
            }
        };
        let request = Self {
            model: fields.text("model")?,
            messages,
            sampling: sampling(&mut fields)?,
            max_tokens: new.or(old).map(|n| n as usize),
            stop: stop(fields.take("stop"))?,
            thinking: Thinking::parse(&mut fields)?,
            stream,
            include_usage,
            return_progress: fields.flag("return_progress")?,
        };
        // What changes nothing in the answer.
        fields.ignore(&[
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "parallel_tool_calls",
            "keep_alive",
            "cache_prompt",
            "timings_per_token",
        ]);
        // What would change it, and cannot be done: only its harmless values pass.
        for (name, harmless) in [
            ("n", vec![json!(1)]),
            ("logprobs", vec![json!(false)]),
            ("top_logprobs", vec![json!(0)]),
            ("logit_bias", vec![json!({})]),
            ("tools", vec![json!([])]),
            ("tool_choice", vec![json!("none"), json!("auto")]),
            ("response_format", vec![json!({"type": "text"})]),
            ("modalities", vec![json!(["text"])]),
        ] {
            fields.refuse(name, &harmless)?;
        }
        fields.finish()?;
        Ok(request)
    }
}

fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let mut sampling = Sampling::default();
    for (name, place) in [
        ("temperature", &mut sampling.temperature),
        ("top_p", &mut sampling.top_p),
        ("min_p", &mut sampling.min_p),
        ("repeat_penalty", &mut sampling.repeat_penalty),
        ("frequency_penalty", &mut sampling.frequency_penalty),
        ("presence_penalty", &mut sampling.presence_penalty),
    ] {
        if let Some(value) = fields.number(name)? {
            *place = value;
        }
    }
    if let Some(top_k) = fields.integer("top_k", 0, i64::from(i32::MAX))? {
        sampling.top_k = top_k as i32;
    }
    // llama.cpp's seeds have 32 bits; others are folded, not refused, as any number is a good seed.
    sampling.seed = fields
        .integer("seed", i64::MIN, i64::MAX)?
        .map(|seed| (seed ^ (seed >> 32)) as u32);
    sampling.ignore_eos = fields.flag("ignore_eos")?;
    sampling.check()?;
    Ok(sampling)
}

fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = |message: &str| ApiError::field("stop", message);
    let stops = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => stops
            .into_iter()
            .map(|stop| match stop {
                Value::String(stop) => Ok(stop),
                _ => Err(wrong("every stop sequence must be a string")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong("stop must be a string or an array of strings")),
    };
    if stops.len() > MAX_STOPS {
        return Err(wrong(&format!(
            "there may be {MAX_STOPS} stop sequences at most"
        )));
    }
    if stops
        .iter()
        .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
    {
        return Err(wrong(&format!(
            "a stop sequence must have 1 to {MAX_STOP_BYTES} bytes"
        )));
    }
    Ok(stops)
}

fn messages(value: Option<Value>) -> Result<Vec<Message>, ApiError> {
    let wrong = |message: &str| ApiError::field("messages", message);
    let Some(Value::Array(list)) = value else {
        return Err(wrong("messages must be an array of messages"));
    };
    if list.is_empty() || list.len() > MAX_MESSAGES {
        return Err(wrong(&format!(
            "there must be 1 to {MAX_MESSAGES} messages"
        )));
    }
    list.into_iter()
        .enumerate()
        .map(|(i, value)| message(value, &format!("messages[{i}]")))
        .collect()
}

fn message(value: Value, at: &str) -> Result<Message, ApiError> {
    let mut fields = Fields::of(value, at)?;
    let role = match fields.text("role")?.as_deref() {
        // OpenAI's newer name for the system's.
        Some("developer") => "system".to_owned(),
        Some(role @ ("system" | "user" | "assistant")) => role.to_owned(),
        Some(role) => {
            return Err(ApiError::unsupported(
                format!("{at}.role"),
                format!("the role {role:?} is not supported: use system, user or assistant"),
            ));
        }
        None => {
            return Err(ApiError::field(
                format!("{at}.role"),
                format!("{at} has no role"),
            ));
        }
    };
    let content_at = format!("{at}.content");
    let content = match fields.take("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts
            .into_iter()
            .map(|part| text_part(part, &content_at))
            .collect::<Result<_, _>>()?,
        _ => {
            return Err(ApiError::field(
                content_at,
                format!("{at} has no content that is text"),
            ));
        }
    };
    let mut message = Message::new(role, content);
    // OpenAI has no name for it; these are llama-server's, OpenRouter's and Ollama's.
    for name in ["reasoning_content", "reasoning", "thinking"] {
        let reasoning = fields.text(name)?;
        if message.role == "assistant" {
            message.reasoning = reasoning.or(message.reasoning);
        }
    }
    // A client may send back what it got; the template has no place for these.
    fields.ignore(&["name", "refusal", "annotations", "audio", "function_call"]);
    fields.refuse("tool_calls", &[json!([])])?;
    fields.finish()?;
    Ok(message)
}

fn text_part(part: Value, at: &str) -> Result<String, ApiError> {
    let mut fields = Fields::of(part, at)?;
    match fields.text("type")?.as_deref() {
        Some("text") => {}
        _ => {
            return Err(ApiError::unsupported(
                at,
                "only content parts of type text are supported",
            ));
        }
    }
    fields
        .text("text")?
        .ok_or_else(|| ApiError::field(at, "a content part of type text needs text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: Value) -> Value {
        ChatRequest::parse(body.to_string().as_bytes())
            .expect_err("refused")
            .to_json()["error"]
            .clone()
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        body
    }

    #[test]
    fn what_is_given_is_what_is_asked() {
        let body = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 7,
            "temperature": 0, "top_k": 1, "seed": 3, "stop": "x", "user": "me", "n": 1, "tools": null,
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ],
        });
        let request = ChatRequest::parse(body.to_string().as_bytes()).expect("fine");
        assert_eq!(request.messages[0].role, "system");
        assert_eq!(request.messages[1].content, "ab");
        assert_eq!(
            (request.max_tokens, request.stop),
            (Some(7), vec!["x".to_owned()])
        );
        assert_eq!(
            (request.sampling.temperature, request.sampling.top_k),
            (0.0, 1)
        );
        assert_eq!(request.sampling.seed, Some(3));
        assert!(request.stream && request.include_usage && !request.return_progress);
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (name, value) in [
            ("max_tokens", json!(-1)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(1e300)),
            ("max_completion_tokens", json!("ten")),
            ("temperature", json!(-1)),
            ("temperature", json!(1e300)),
            ("top_p", json!(2)),
            ("top_k", json!(-3)),
            ("top_k", json!(1.5)),
            ("seed", json!(1e300)),
            ("stop", json!("")),
            ("stop", json!([1])),
            ("stop", json!("x".repeat(1000))),
            ("stream", json!("yes")),
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("model", json!(5)),
            ("n", json!(2)),
            ("tools", json!([{"type": "function"}])),
            ("response_format", json!({"type": "json_object"})),
            ("temprature", json!(1)),
        ] {
            let error = error(with(name, value.clone()));
            assert_eq!(error["param"], name, "{value}");
            assert_eq!(error["type"], "invalid_request_error");
        }
    }

    #[test]
    fn a_message_that_no_template_can_take_is_named() {
        let at = |message: Value| error(json!({"messages": [message]}))["param"].clone();
        assert_eq!(
            at(json!({"role": "tool", "content": "x"})),
            "messages[0].role"
        );
        assert_eq!(at(json!({"content": "x"})), "messages[0].role");
        assert_eq!(at(json!({"role": "user"})), "messages[0].content");
        assert_eq!(
            at(json!({"role": "user", "content": [{"type": "image_url"}]})),
            "messages[0].content"
        );
    }

    #[test]
    fn what_is_no_json_object_is_told_so() {
        for body in ["", "{", "[]", "null", "\u{0}"] {
            let error = ChatRequest::parse(body.as_bytes())
                .expect_err("refused")
                .to_json();
            assert_eq!(error["error"]["type"], "invalid_request_error", "{body:?}");
        }
    }
}
