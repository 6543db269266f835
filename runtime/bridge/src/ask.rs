//! An ask as it comes in: text or JSON, checked field by field, turned into a request to the engine.
//!
//! In: the payload of an `ask` message. Out: an [`Ask`], or a [`Refused`] that says what is wrong
//! with which field. Pure: nothing is sent here.
//! Must never guess: a field given twice, of a wrong type or that cannot be honoured is an error, not
//! something to skip. A field that nobody knows is skipped, and named in the answer.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::answer::{AskError, ErrorCode};
use crate::topics::{AskId, Topics};

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

/// What the fields say, but for id and reply topic.
struct Body {
    request: Value,
    stream: bool,
    deadline: Option<i64>,
    ignored: Vec<String>,
}

/// Checks every field. One that is null counts as left out.
fn body(fields: &[(String, Value)]) -> Result<Body, AskError> {
    let mut messages = None;
    let mut stream = false;
    let mut deadline = None;
    let mut ignored = Vec::new();
    let mut options = Map::new();
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in fields {
        if seen.contains(&name.as_str()) {
            return Err(bad_request(format!("the field \"{name}\" is given twice")));
        }
        seen.push(name);
        if value.is_null() {
            continue;
        }
        match name.as_str() {
            "prompt" | "messages" if messages.is_some() => {
                return Err(bad_request(
                    "\"prompt\" and \"messages\" are both given; give one",
                ));
            }
            "prompt" => {
                let prompt = string(name, value)?;
                if prompt.trim().is_empty() {
                    return Err(bad_request("\"prompt\" is empty"));
                }
                messages = Some(user_message(prompt));
            }
            "messages" => {
                let list = value.as_array().filter(|list| {
                    !list.is_empty() && list.iter().all(|message| message.is_object())
                });
                if list.is_none() {
                    return Err(bad_request(
                        "\"messages\" must be a list of at least one object with role and content",
                    ));
                }
                messages = Some(value.clone());
            }
            "model" => {
                let model = string(name, value)?;
                if model.is_empty() {
                    return Err(bad_request("\"model\" is empty"));
                }
                options.insert(name.clone(), value.clone());
            }
            "stream" => {
                stream = value
                    .as_bool()
                    .ok_or_else(|| bad_request("\"stream\" must be true or false"))?;
            }
            "max_tokens" => {
                if !value
                    .as_u64()
                    .is_some_and(|n| (1..=u64::from(u32::MAX)).contains(&n))
                {
                    return Err(bad_request(
                        "\"max_tokens\" must be a whole number from 1 on",
                    ));
                }
                options.insert(name.clone(), value.clone());
            }
            "temperature" => {
                if !value.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t)) {
                    return Err(bad_request("\"temperature\" must be a number from 0 to 2"));
                }
                options.insert(name.clone(), value.clone());
            }
            "think" => {
                // The engine knows its levels, and names them to who asks for another.
                if !value.is_boolean() && !value.is_string() {
                    return Err(bad_request("\"think\" must be true, false or a level"));
                }
                options.insert(name.clone(), value.clone());
            }
            "format" => {
                options.insert("response_format".into(), response_format(value)?);
            }
            "deadline" => {
                // Up to the year 5138, which also shows a time in milliseconds for what it is.
                let seconds = value
                    .as_f64()
                    .filter(|seconds| (1e9..1e11).contains(seconds))
                    .ok_or_else(|| {
                        bad_request(
                            "\"deadline\" must be a Unix time, in seconds since 1970; for a time from now on, use the Message Expiry of MQTT 5",
                        )
                    })?;
                deadline = Some((seconds * 1000.0) as i64);
            }
            "id" | "reply_to" => {}
            // Told in the answer, so a bounded number of names of bounded length.
            _ if ignored.len() < 16 => ignored.push(name.chars().take(64).collect()),
            _ => {}
        }
    }
    let messages = messages.ok_or_else(|| {
        let neither = "neither \"prompt\" nor \"messages\" is given";
        bad_request(match ignored.first() {
            Some(unknown) => format!("{neither}, and \"{unknown}\" is unknown"),
            None => neither.into(),
        })
    })?;
    Ok(Body {
        request: request(messages, options),
        stream,
        deadline,
        ignored,
    })
}

fn user_message(prompt: &str) -> Value {
    json!([{"role": "user", "content": prompt}])
}

/// The field `format`, which is Ollama's, in OpenAI's words.
fn response_format(format: &Value) -> Result<Value, AskError> {
    match format {
        Value::String(name) if name == "json" => Ok(json!({"type": "json_object"})),
        Value::Object(_) => Ok(json!({"type": "json_schema", "json_schema": {"schema": format}})),
        _ => Err(bad_request(
            "\"format\" must be \"json\" or a JSON schema, as an object",
        )),
    }
}

/// Always streamed: dropping a streamed response is how an ask is cancelled. Its progress tells when it
/// has left the engine's queue. It can wait: who sits at the page goes first.
fn request(messages: Value, options: Map<String, Value>) -> Value {
    let mut body = json!({
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
        "return_progress": true,
        "service_tier": "flex",
    });
    body.as_object_mut()
        .expect("the body is an object")
        .extend(options);
    body
}

fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str, AskError> {
    value
        .as_str()
        .ok_or_else(|| bad_request(format!("\"{name}\" must be a string")))
}

fn bad_request(message: impl Into<String>) -> AskError {
    AskError::new(ErrorCode::BadRequest, message)
}

/// A JSON object's fields in order, doubles kept so that they can be refused.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests;
