//! What the fields of an ask say, but for its id and where its answer goes: checked, and put in the engine's words.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::answer::{AskError, ErrorCode};

/// What the fields say, but for id and reply topic.
pub(super) struct Body {
    pub(super) request: Value,
    pub(super) stream: bool,
    pub(super) deadline: Option<i64>,
    pub(super) ignored: Vec<String>,
}

/// Checks every field. One that is null counts as left out.
pub(super) fn body(fields: &[(String, Value)]) -> Result<Body, AskError> {
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

pub(super) fn user_message(prompt: &str) -> Value {
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
pub(super) fn request(messages: Value, options: Map<String, Value>) -> Value {
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

pub(super) fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str, AskError> {
    value
        .as_str()
        .ok_or_else(|| bad_request(format!("\"{name}\" must be a string")))
}

pub(super) fn bad_request(message: impl Into<String>) -> AskError {
    AskError::new(ErrorCode::BadRequest, message)
}

/// A JSON object's fields in order, doubles kept so that they can be refused.
pub(super) struct Fields(pub(super) Vec<(String, Value)>);

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
