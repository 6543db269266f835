//! An ask as it comes in: text or JSON, checked field by field, turned into a request to the engine.
//!
//! In: the payload of an `ask` message. Out: an [`Ask`], or a [`Refused`] that says what is wrong
//! with which field. Pure: nothing is sent here.
//! Must never guess: a field given twice, of a wrong type or that cannot be honoured is an error, not
//! something to skip. A field that nobody knows is skipped, and named in the answer.

mod body;

use serde_json::{Map, Value};

use crate::answer::{AskError, ErrorCode};
use crate::topics::{AskId, Topics};

use body::{Fields, bad_request, body, request, string, user_message};

/// The longest payload of an ask, in bytes.
pub const MAX_ASK_BYTES: usize = 1024 * 1024;

/// An ask that may be put to the engine.
#[derive(Debug, PartialEq)]
pub struct Ask {
    /// Its id, its own or made here.
    pub id: AskId,
    /// Whether it brought that id.
    pub own_id: bool,
    /// Whether it is a bare text, whose answer is wanted as one too.
    pub bare: bool,
    /// The body of `POST /v1/chat/completions`.
    pub request: Value,
    /// Whether its pieces are wanted on `stream/<id>`.
    pub stream: bool,
    /// Where the JSON wants the answer.
    pub reply_to: Option<String>,
    /// When its answer is of no use any more, in milliseconds since 1970.
    pub deadline: Option<i64>,
    /// Fields that nobody knows.
    pub ignored: Vec<String>,
}

/// How a payload is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As JSON if it starts with `{`.
    Either,
    /// As JSON, by its Content Type.
    Json,
    /// As text, by its Content Type.
    Text,
}

impl Form {
    /// What an MQTT 5 Content Type says of the payload.
    pub fn of(content_type: Option<&str>) -> Self {
        let content_type = content_type.unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if kind.eq_ignore_ascii_case("text/plain") {
            Self::Text
        } else {
            Self::Either
        }
    }
}

/// An ask that cannot be put to the engine.
#[derive(Debug, PartialEq)]
pub struct Refused {
    /// The ask's id; `None` if it could not be read or cannot stand in a topic.
    pub id: Option<AskId>,
    /// Where the JSON wants the answer, if that could be read and may be had.
    pub reply_to: Option<String>,
    /// What is wrong.
    pub error: AskError,
}

/// Reads an ask. Unless its form is given, a payload that starts with `{` is JSON, every other is the
/// prompt itself.
pub fn parse(payload: &[u8], form: Form, topics: &Topics) -> Result<Ask, Refused> {
    let unreadable = |message: String| Refused {
        id: None,
        reply_to: None,
        error: AskError::new(ErrorCode::BadRequest, message),
    };
    if payload.len() > MAX_ASK_BYTES {
        return Err(unreadable(format!(
            "the ask has {} bytes; at most {MAX_ASK_BYTES} are taken",
            payload.len()
        )));
    }
    let text = std::str::from_utf8(payload)
        .map_err(|error| unreadable(format!("the ask is not valid UTF-8: {error}")))?;
    if text.trim().is_empty() {
        return Err(unreadable("the ask is empty".into()));
    }
    let json = match form {
        Form::Either => text.trim_start().starts_with('{'),
        Form::Json => true,
        Form::Text => false,
    };
    if !json {
        return Ok(Ask {
            id: AskId::random(),
            own_id: false,
            bare: true,
            request: request(user_message(text), Map::new()),
            stream: false,
            reply_to: None,
            deadline: None,
            ignored: Vec::new(),
        });
    }
    let Fields(fields) = serde_json::from_str(text)
        .map_err(|error| unreadable(format!("the ask is not valid JSON: {error}")))?;
    from_fields(fields, topics)
}

fn from_fields(fields: Vec<(String, Value)>, topics: &Topics) -> Result<Ask, Refused> {
    // Id and reply topic first, so that whatever else is wrong is told under that id and there.
    let mut id = None;
    let mut reply_to = None;
    for (name, value) in &fields {
        let wrong = |error| Refused {
            id: id.clone(),
            reply_to: None,
            error,
        };
        match (name.as_str(), value) {
            ("id", Value::Null) | ("reply_to", Value::Null) => {}
            ("id", value) => {
                let text = string("id", value).map_err(wrong)?;
                id = Some(AskId::parse(text).map_err(|why| wrong(bad_request(why)))?);
            }
            ("reply_to", value) => {
                let text = string("reply_to", value).map_err(wrong)?;
                topics
                    .check_reply_to(text)
                    .map_err(|why| wrong(bad_request(why)))?;
                reply_to = Some(text.to_string());
            }
            _ => {}
        }
    }
    let own_id = id.is_some();
    let id = id.unwrap_or_else(AskId::random);
    match body(&fields) {
        Ok(body) => Ok(Ask {
            id,
            own_id,
            bare: false,
            request: body.request,
            stream: body.stream,
            reply_to,
            deadline: body.deadline,
            ignored: body.ignored,
        }),
        Err(error) => Err(Refused {
            id: Some(id),
            reply_to,
            error,
        }),
    }
}

#[cfg(test)]
mod tests;
