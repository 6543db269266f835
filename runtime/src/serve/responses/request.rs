//! What a client of `/v1/responses` asks for, checked field by field.

use serde_json::{Map, Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::ask::{Ask, Source, Thinking, Tools, messages, response_format, sampling};
use crate::serve::fields::Fields;

/// A checked request.
#[derive(Debug)]
pub struct ResponsesRequest {
    pub ask: Ask,
    pub stream: bool,
    /// What the answer repeats of it.
    pub echo: Map<String, Value>,
}

type Result<T> = std::result::Result<T, ApiError>;

/// What an answer repeats, and what it says where the request does not.
fn echoed() -> [(&'static str, Value); 11] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("temperature", Value::Null),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("truncation", json!("disabled")),
    ]
}

/// Of the size that OpenAI allows: it is repeated, and nobody else bounds it.
fn check_metadata(metadata: &Value) -> Result<()> {
    let wrong = || {
        let message = "metadata must be an object of at most 16 texts of at most 512 characters, with names of at most 64";
        ApiError::field("metadata", message)
    };
    let pairs = metadata.as_object().ok_or_else(wrong)?;
    let fits = |(name, value): (&String, &Value)| {
        let text = value.as_str();
        name.chars().count() <= 64 && text.is_some_and(|text| text.chars().count() <= 512)
    };
    match pairs.len() <= 16 && pairs.iter().all(fits) {
        true => Ok(()),
        false => Err(wrong()),
    }
}

impl ResponsesRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// The first field that is wrong, unknown, or asks for what this server cannot do.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let mut echo = Map::new();
        for (name, otherwise) in echoed() {
            let said = fields.get(name).filter(|value| !value.is_null());
            echo.insert(name.to_owned(), said.cloned().unwrap_or(otherwise));
        }
        check_metadata(&echo["metadata"])?;
        let instructions = fields.text("instructions")?;
        let source = input(fields.take("input"), instructions)?;
        let tools = Tools::parse(&mut Fields::of(tools(&mut fields), "tools")?)?;
        let shape = match fields.take("text") {
            None => None,
            Some(text) => shape(text)?,
        };
        let stream = fields.flag("stream")?;
        if let Some(options) = fields.take("stream_options") {
            let mut options = Fields::of(options, "stream_options")?;
            options.ignore(&["include_obfuscation"]);
            options.finish()?;
        }
        let max_tokens = fields.integer("max_output_tokens", 1, i64::from(i32::MAX))?;
        let request = Self {
            ask: Ask {
                model: fields.text("model")?,
                max_tokens: max_tokens.map(|n| n as usize),
                sampling: sampling(&mut fields)?,
                thinking: Thinking::parse(&mut fields)?,
                shape,
                shape_field: "text.format",
                tools,
                ..Ask::of(source).with_common(&mut fields)?
            },
            stream,
            echo,
        };
        // What changes nothing in the answer: nothing is stored whatever is said.
        fields.ignore(&[
            "user",
            "metadata",
            "store",
            "include",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "max_tool_calls",
        ]);
        for (name, harmless) in [
            ("background", json!(false)),
            ("top_logprobs", json!(0)),
            // There is no memory that these could name something in.
            ("previous_response_id", Value::Null),
            ("conversation", Value::Null),
            ("prompt", Value::Null),
        ] {
            fields.refuse(name, &[harmless])?;
        }
        fields.finish()?;
        Ok(request)
    }
}

/// The messages of `input`, after the `instructions`.
fn input(value: Option<Value>, instructions: Option<String>) -> Result<Source> {
    let items = match value {
        Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
        Some(Value::Array(items)) if !items.is_empty() => items,
        _ => {
            let message = "input must be text or an array of items, and not empty";
            return Err(ApiError::field("input", message));
        }
    };
    let mut all = Vec::new();
    if let Some(text) = instructions {
        let system = json!([{"role": "system", "content": text}]);
        all.extend(messages(Some(system))?);
    }
    for (i, item) in items.into_iter().enumerate() {
        let at = format!("input[{i}]");
        let Some(message) = message(item, &at)? else {
            continue;
        };
        let read = messages(Some(json!([message])));
        let read = read.map_err(|error| error.renamed("messages[0]", &at))?;
        for mut message in read {
            match all.last_mut() {
                // Calls are items of their own here, and parts of a message there.
                Some(last) if !message.calls.is_empty() && last.role == "assistant" => {
                    last.calls.append(&mut message.calls);
                }
                _ => all.push(message),
            }
        }
    }
    match all.is_empty() {
        true => Err(ApiError::field("input", "input holds no message")),
        false => Ok(Source::Messages(all)),
    }
}

/// An item as a message of a chat; none for a thought, which is no part of a later prompt.
fn message(item: Value, at: &str) -> Result<Option<Value>> {
    let mut fields = Fields::of(item, at)?;
    let kind = fields.text("type")?;
    let message = match kind.as_deref() {
        None | Some("message") => {
            let mut message = json!({"role": fields.take("role")});
            message["content"] = content(fields.take("content"));
            message
        }
        Some("function_call") => {
            let (name, arguments) = (fields.take("name"), fields.take("arguments"));
            let call = json!({"function": {"name": name, "arguments": arguments}});
            json!({"role": "assistant", "tool_calls": [call]})
        }
        Some("function_call_output") => {
            json!({"role": "tool", "content": content(fields.take("output"))})
        }
        Some("reasoning") => return Ok(None),
        Some(kind) => {
            let message = format!("items of type {kind:?} are not supported");
            return Err(ApiError::unsupported(format!("{at}.type"), message));
        }
    };
    fields.ignore(&["id", "status", "call_id", "phase"]);
    fields.finish()?;
    Ok(Some(message))
}

/// Text, or parts that are called otherwise in a chat.
fn content(value: Option<Value>) -> Value {
    let mut value = value.unwrap_or_default();
    for part in value.as_array_mut().into_iter().flatten() {
        if matches!(part["type"].as_str(), Some("input_text" | "output_text")) {
            part["type"] = "text".into();
        }
        if let Some(part) = part.as_object_mut() {
            part.remove("annotations");
            part.remove("logprobs");
        }
    }
    value
}

/// The fields that concern tools, as a chat has them.
fn tools(fields: &mut Fields) -> Value {
    let nested = |tool: Value| match tool {
        Value::Object(mut tool) if tool.get("type") == Some(&json!("function")) => {
            tool.remove("type");
            json!({"type": "function", "function": tool})
        }
        other => other,
    };
    let tools = match fields.take("tools") {
        Some(Value::Array(tools)) => Some(tools.into_iter().map(nested).collect()),
        other => other,
    };
    json!({
        "tools": tools,
        "tool_choice": fields.take("tool_choice"),
        "parallel_tool_calls": fields.take("parallel_tool_calls"),
    })
}

/// What `text` says about the answer.
fn shape(text: Value) -> Result<Option<cloister_engine::Shape>> {
    let mut fields = Fields::of(text, "text")?;
    let format = fields.take("format");
    fields.refuse("verbosity", &[json!("medium")])?;
    fields.finish()?;
    let format = match format {
        Some(Value::Object(mut format)) if format.get("type") == Some(&json!("json_schema")) => {
            format.remove("type");
            Some(json!({"type": "json_schema", "json_schema": format}))
        }
        other => other,
    };
    response_format(format).map_err(|error| {
        error
            .renamed("response_format.json_schema", "text.format")
            .renamed("response_format", "text.format")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value) -> Result<ResponsesRequest> {
        ResponsesRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn items_are_the_messages_that_they_would_be_in_a_chat() {
        let request = parse(&json!({
            "instructions": "be brief",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Warm?"}]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                 "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{\"at\": 1}"},
                {"type": "function_call_output", "call_id": "c", "output": "20"},
            ],
            "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": false}],
            "max_output_tokens": 9,
        }));
        let ask = request.expect("fine").ask;
        let Source::Messages(messages) = ask.source else {
            panic!("messages were given");
        };
        let told: Vec<_> = messages
            .iter()
            .map(|m| (&*m.role, &*m.content, m.calls.len()))
            .collect();
        let expected = [
            ("system", "be brief", 0),
            ("user", "Warm?", 0),
            ("assistant", "I look.", 1),
            ("tool", "20", 0),
        ];
        assert_eq!(told, expected);
        assert_eq!(ask.tools.expect("one").tools[0].name, "look");
        assert_eq!(ask.max_tokens, Some(9));
    }

    #[test]
    fn what_is_wrong_is_named_as_this_api_names_it() {
        for (body, param) in [
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": 5}), "input"),
            (json!({"input": [{"role": "user"}]}), "input[0].content"),
            (
                json!({"input": [{"type": "computer_call"}]}),
                "input[0].type",
            ),
            (
                json!({"input": [{"role": "user", "content": "x", "colour": 1}]}),
                "colour",
            ),
            (
                json!({"input": "x", "max_output_tokens": 0}),
                "max_output_tokens",
            ),
            (
                json!({"input": "x", "previous_response_id": "resp_1"}),
                "previous_response_id",
            ),
            (json!({"input": "x", "background": true}), "background"),
            (json!({"input": "x", "truncation": "auto"}), "truncation"),
            (
                json!({"input": "x", "text": {"format": {"type": "poem"}}}),
                "text.format.type",
            ),
            (
                json!({"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": 5}}}),
                "text.format.schema",
            ),
            (json!({"input": "x", "inputs": "y"}), "inputs"),
        ] {
            let error = parse(&body).expect_err("refused").to_json();
            assert_eq!(error["error"]["param"], param, "{body}");
        }
    }
}
