//! Tools: how a model is told of them, what its calls must look like, and how they are read out of its answer.
//!
//! A call is `<tool_call>`, JSON with `name` and `arguments`, `</tool_call>`: the form of Hermes and Qwen. Models
//! whose template describes tools in it are told by the template; others are told in the system message, and
//! what was called and came of it stands in the messages as text.

mod calls;

use serde_json::{Value, json};

use crate::chat::Message;
use crate::shape::{Shape, spaced};
pub use calls::CallSplitter;

/// What a call begins with.
pub const OPEN: &str = "<tool_call>";
/// What a call ends with.
pub const CLOSE: &str = "</tool_call>";

/// Something that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments: an object.
    pub parameters: Value,
    /// Whether the arguments must be all that the schema says, so that one which cannot be held to is refused.
    pub strict: bool,
    /// How it is described to the model: `{"type": "function", "function": {..}}`.
    pub json: Value,
}

/// What the arguments of each of these tools must look like, if they are offered together.
pub fn arguments(tools: &[Tool]) -> impl Iterator<Item = Shape> {
    let strict = tools.iter().any(|tool| tool.strict);
    tools
        .iter()
        .map(move |tool| Shape::JsonSchema(held(tool.parameters.clone(), strict)))
}

/// A schema as calls are held to it: what cannot be held to is passed over unless it is `strict`.
fn held(schema: Value, strict: bool) -> Value {
    let mut schema = spaced(schema);
    schema["x-guidance"]["lenient"] = (!strict).into();
    schema
}

/// A call that a model made.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What it calls.
    pub name: String,
    /// With what: an object.
    pub arguments: Value,
}

/// Whether the model calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// It must.
    Required,
    /// It must call this one.
    Named(String),
}

/// Where a grammar begins to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// From the answer's beginning.
    #[default]
    Answer,
    /// From within the first call, should there be one.
    Call,
}

/// What an answer that may hold calls must look like, and from where on.
///
/// # Errors
/// The other `shape` that the answer is to have cannot stand beside calls.
pub fn shape(
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
    shape: Option<&Shape>,
) -> Result<(Shape, Hold), &'static str> {
    let call = |(i, tool): (usize, &Tool)| {
        let mut arguments = tool.parameters.clone();
        if let Some(schema) = arguments.as_object_mut() {
            // What it refers to is in it, wherever it stands.
            schema.entry("$id").or_insert(format!("tool:{i}").into());
        }
        json!({
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let callable = tools.iter().filter(|tool| match choice {
        ToolChoice::Named(name) => *name == tool.name,
        _ => true,
    });
    let strict = callable.clone().any(|tool| tool.strict);
    let schema = held(
        json!({"anyOf": callable.enumerate().map(call).collect::<Vec<_>>()}),
        strict,
    );
    let more = if parallel { "(\"\\n\" open call)*" } else { "" };
    let (start, hold) = match (choice, shape) {
        // What has come already may lack the tag, and then lacks the closing one.
        (ToolChoice::Auto, None) => (format!("/\\s*/ json close? {more}"), Hold::Call),
        (ToolChoice::Auto, Some(_)) => (format!("open call {more} | other"), Hold::Answer),
        _ => (format!("open call {more}"), Hold::Answer),
    };
    let other = match (choice, shape) {
        (ToolChoice::Auto, Some(Shape::JsonSchema(schema))) => {
            format!("other: %json {}\n", spaced(schema.clone()))
        }
        (ToolChoice::Auto, Some(_)) => return Err("beside tools it must be JSON"),
        _ => String::new(),
    };
    let lark = format!(
        "start: {start}\nopen: \"{OPEN}\"\ncall: \"\\n\" json \"\\n{CLOSE}\"\njson: %json {schema}\nclose: \"\\n{CLOSE}\" | \"\\n```\"\n{other}"
    );
    Ok((Shape::Lark(lark), hold))
}

/// The messages for a template that knows no tools.
pub fn told(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let mut told: Vec<Message> = Vec::new();
    if !tools.is_empty() {
        let described = description(tools);
        let system = messages.first().filter(|message| message.role == "system");
        let content = system.map_or_else(String::new, |system| system.content.clone() + "\n\n");
        told.push(Message::new("system", content + &described));
    }
    let rest = if told.is_empty() {
        0
    } else {
        usize::from(messages[0].role == "system")
    };
    for (i, message) in messages.iter().enumerate().skip(rest) {
        let mut message = message.clone();
        let calls = std::mem::take(&mut message.calls);
        for call in calls {
            let json = json!({"name": call.name, "arguments": call.arguments});
            let gap = if message.content.is_empty() { "" } else { "\n" };
            message.content += &format!("{gap}{OPEN}\n{json}\n{CLOSE}");
        }
        if message.role == "tool" {
            message.role = "user".to_owned();
            message.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
            // Results of one turn are one message: templates may want roles to alternate.
            if i > rest && messages[i - 1].role == "tool" {
                let last = told.last_mut().expect("the result before");
                last.content += "\n";
                last.content += &message.content;
                continue;
            }
        }
        told.push(message);
    }
    told
}

fn description(tools: &[Tool]) -> String {
    let list: Vec<String> = tools.iter().map(|tool| tool.json.to_string()).collect();
    format!(
        "You can call functions. These are there, one a line, in JSON:\n<tools>\n{}\n</tools>\n\n\
         To call one, write its name and its arguments so, and nothing else:\n\
         {OPEN}\n{{\"name\": \"...\", \"arguments\": {{...}}}}\n{CLOSE}\n\
         You are then given what it returns. Without need of a function, answer in words.",
        list.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_results_become_text_where_the_template_knows_neither() {
        let call = |name: &str| ToolCall {
            name: name.to_owned(),
            arguments: json!({"x": 1}),
        };
        let messages = [
            Message::new("system", "Be kind."),
            Message::new("user", "Do both."),
            Message {
                calls: vec![call("a"), call("b")],
                ..Message::new("assistant", "")
            },
            Message::new("tool", "one"),
            Message::new("tool", "two"),
        ];
        let tool = Tool {
            name: "a".to_owned(),
            parameters: json!({}),
            strict: false,
            json: json!({"type": "function"}),
        };
        let told = told(&messages, &[tool]);
        let roles: Vec<&str> = told.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert!(told[0].content.starts_with("Be kind.\n\nYou can call"));
        assert!(told[0].content.contains("{\"type\":\"function\"}"));
        assert_eq!(told[2].content.matches(OPEN).count(), 2);
        assert_eq!(
            told[3].content,
            "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"
        );
    }
}
