//! The tools of a request: `tools`, `tool_choice`, `parallel_tool_calls`, and the calls of earlier turns.

use cloister_engine::{Tool, ToolCall, ToolChoice};
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

/// Most tools, and most bytes of a name.
const MAX_TOOLS: usize = 256;
const MAX_NAME: usize = 64;

type Result<T> = std::result::Result<T, ApiError>;

/// What may be called.
#[derive(Debug)]
pub struct Tools {
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    /// Whether an answer may hold several calls.
    pub parallel: bool,
}

impl Tools {
    /// Takes the fields that concern tools. None when there are none, or none may be called.
    ///
    /// # Errors
    /// The field that is wrong, or asks for what is not there.
    pub fn parse(fields: &mut Fields) -> Result<Option<Self>> {
        let tools = tools(fields.take("tools"))?;
        let choice = choice(fields.take("tool_choice"), &tools)?;
        let parallel = match fields.has("parallel_tool_calls") {
            false => true,
            true => fields.flag("parallel_tool_calls")?,
        };
        Ok(choice.filter(|_| !tools.is_empty()).map(|choice| Self {
            tools,
            choice,
            parallel,
        }))
    }
}

fn tools(value: Option<Value>) -> Result<Vec<Tool>> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_TOOLS => list,
        Some(_) => {
            let message = format!("tools must be an array of at most {MAX_TOOLS} tools");
            return Err(ApiError::field("tools", message));
        }
    };
    let mut tools: Vec<Tool> = Vec::new();
    for (i, value) in list.into_iter().enumerate() {
        let tool = tool(value, &format!("tools[{i}]"))?;
        if tools.iter().any(|other| other.name == tool.name) {
            let message = format!("there are two tools of the name {:?}", tool.name);
            return Err(ApiError::field(
                format!("tools[{i}].function.name"),
                message,
            ));
        }
        tools.push(tool);
    }
    Ok(tools)
}

fn tool(value: Value, at: &str) -> Result<Tool> {
    let mut fields = Fields::of(value, at)?;
    let kind = fields.text("type")?;
    if kind.is_some_and(|kind| kind != "function") {
        let field = format!("{at}.type");
        return Err(ApiError::unsupported(
            field,
            "only tools of type function are supported",
        ));
    }
    let at = format!("{at}.function");
    let function = fields.take("function").unwrap_or_default();
    // What else it says about itself is for the model to read.
    let mut json = json!({"type": "function", "function": function});
    let mut function = Fields::of(function, &at)?;
    let name = function.text("name")?.unwrap_or_default();
    let sound = |c: char| c.is_alphanumeric() || "_-.:/".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(sound) {
        let message = format!("{at}.name must be 1 to {MAX_NAME} letters, digits and any of _-.:/");
        return Err(ApiError::field(format!("{at}.name"), message));
    }
    let parameters = match function.take("parameters") {
        None => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        Some(schema @ Value::Object(_)) => schema,
        Some(_) => {
            let field = format!("{at}.parameters");
            return Err(ApiError::field(
                field,
                format!("{at}.parameters must be a JSON schema"),
            ));
        }
    };
    let strict = function.flag("strict")?;
    if let Some(told) = json["function"].as_object_mut() {
        told.remove("strict");
    }
    Ok(Tool {
        name,
        parameters: arguments(parameters),
        strict,
        json,
    })
}

/// A schema of arguments, which are an object whatever it says.
fn arguments(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.entry("type").or_insert("object".into());
        // Where a schema leaves open what else there may be, models make it up.
        if object.contains_key("properties") {
            object.entry("additionalProperties").or_insert(false.into());
        }
    }
    schema
}

/// None for `none`.
fn choice(value: Option<Value>, tools: &[Tool]) -> Result<Option<ToolChoice>> {
    let wrong = |message: String| ApiError::field("tool_choice", message);
    let choice = match value {
        None => return Ok(Some(ToolChoice::Auto)),
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => return Ok(None),
            "auto" => return Ok(Some(ToolChoice::Auto)),
            "required" => ToolChoice::Required,
            _ => {
                let message = format!(
                    "tool_choice must be none, auto, required or a function, not {choice:?}"
                );
                return Err(wrong(message));
            }
        },
        Some(value) => {
            let name = value.pointer("/function/name").or(value.get("name"));
            match name.and_then(Value::as_str) {
                Some(name) => ToolChoice::Named(name.to_owned()),
                None => return Err(wrong("tool_choice must name a function".to_owned())),
            }
        }
    };
    match &choice {
        _ if tools.is_empty() => Err(wrong("there are no tools to choose from".to_owned())),
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(wrong(format!("there is no tool {name:?}")))
        }
        _ => Ok(Some(choice)),
    }
}

/// The calls of an earlier turn: OpenAI's clients send the arguments as text, Ollama's as an object.
pub fn calls(value: Option<Value>, at: &str) -> Result<Vec<ToolCall>> {
    let at = format!("{at}.tool_calls");
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(ApiError::field(&at, format!("{at} must be an array"))),
    };
    let call = |(i, value): (usize, Value)| {
        let at = format!("{at}[{i}].function");
        let name = value.pointer("/function/name").and_then(Value::as_str);
        let name = name.ok_or_else(|| ApiError::field(&at, format!("{at} has no name")))?;
        let arguments = match value.pointer("/function/arguments") {
            None | Some(Value::Null) => json!({}),
            Some(Value::String(text)) if text.is_empty() => json!({}),
            Some(Value::String(text)) => serde_json::from_str(text)
                .map_err(|_| ApiError::field(&at, format!("{at}.arguments must be JSON")))?,
            Some(arguments) => arguments.clone(),
        };
        Ok(ToolCall {
            name: name.to_owned(),
            arguments,
        })
    };
    list.into_iter().enumerate().map(call).collect()
}
