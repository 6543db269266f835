//! The messages of a conversation, as requests say them.

use cloister_engine::Message;
use serde_json::{Value, json};

use super::tools::calls;
use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

/// Most messages of one conversation.
const MAX_MESSAGES: usize = 4096;

/// Checks the messages of a conversation, as OpenAI's and Ollama's clients send them.
pub fn messages(value: Option<Value>) -> Result<Vec<Message>, ApiError> {
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
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role.to_owned(),
        Some(role) => {
            return Err(ApiError::unsupported(
                format!("{at}.role"),
                format!("the role {role:?} is not supported: use system, user, assistant or tool"),
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
    let calls = calls(fields.take("tool_calls"), at)?;
    let content = match fields.take("content") {
        None if !calls.is_empty() => String::new(),
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
    if message.role == "assistant" {
        message.calls = calls;
    }
    // OpenAI has no name for it; these are llama-server's, OpenRouter's and Ollama's.
    for name in ["reasoning_content", "reasoning", "thinking"] {
        let reasoning = fields.text(name)?;
        if message.role == "assistant" {
            message.reasoning = reasoning.or(message.reasoning);
        }
    }
    // A client may send back what it got; the template has no place for these.
    fields.ignore(&[
        "name",
        "tool_name",
        "tool_call_id",
        "refusal",
        "annotations",
        "audio",
        "function_call",
    ]);
    fields.refuse("images", &[json!([])])?;
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
