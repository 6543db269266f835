//! What an answer must look like, as requests say it: OpenAI's `response_format`, Ollama's `format`.

use cloister_engine::Shape;
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

type Result<T> = std::result::Result<T, ApiError>;

/// Any JSON object.
fn any_object() -> Shape {
    Shape::JsonSchema(json!({"type": "object"}))
}

/// OpenAI's `response_format`: `text`, `json_object`, `json_schema`; and `grammar`, with the `syntax` and the
/// `definition` of its custom tools, `regex` or `lark`, or in llama.cpp's `gbnf`.
pub fn response_format(value: Option<Value>) -> Result<Option<Shape>> {
    let at = "response_format";
    let Some(value) = value else {
        return Ok(None);
    };
    let mut fields = Fields::of(value, at)?;
    let shape = match fields.text("type")?.as_deref() {
        Some("text") => None,
        Some("json_object") => Some(match fields.take("schema") {
            // As llama-server has it.
            Some(schema) => schema_of(schema, "response_format.schema")?,
            None => any_object(),
        }),
        Some("json_schema") => {
            let given = fields.take("json_schema").unwrap_or_default();
            let mut given = Fields::of(given, "response_format.json_schema")?;
            let schema = given.take("schema").unwrap_or_default();
            // It is always kept to, strictly.
            given.ignore(&["name", "description", "strict"]);
            given.finish()?;
            Some(schema_of(schema, "response_format.json_schema.schema")?)
        }
        Some("grammar") => {
            let syntax = fields.text("syntax")?;
            let definition = fields.text("definition")?.ok_or_else(|| {
                let field = "response_format.definition";
                ApiError::field(
                    field,
                    "a response_format of type grammar needs a definition",
                )
            })?;
            Some(match syntax.as_deref() {
                Some("regex") => Shape::Regex(definition),
                Some("lark") => Shape::Lark(definition),
                Some("gbnf") => Shape::Gbnf(definition),
                _ => {
                    let field = "response_format.syntax";
                    return Err(ApiError::field(field, "syntax must be regex, lark or gbnf"));
                }
            })
        }
        _ => {
            return Err(ApiError::field(
                "response_format.type",
                "the type of response_format must be text, json_object, json_schema or grammar",
            ));
        }
    };
    fields.finish()?;
    Ok(shape)
}

/// OpenAI's `response_format`, or llama-server's `grammar` in its place; and which of them it was.
pub fn chat_shape(fields: &mut Fields) -> Result<(Option<Shape>, &'static str)> {
    let shape = response_format(fields.take("response_format"))?;
    match fields
        .text("grammar")?
        .filter(|grammar| !grammar.is_empty())
    {
        None => Ok((shape, "response_format")),
        Some(grammar) if shape.is_none() => Ok((Some(Shape::Gbnf(grammar)), "grammar")),
        Some(_) => {
            let message =
                "grammar and response_format both say what the answer must look like: keep one";
            Err(ApiError::field("grammar", message))
        }
    }
}

/// Ollama's `format`: `"json"` or a schema.
pub fn format(value: Option<Value>) -> Result<Option<Shape>> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => Ok(Some(any_object())),
        Some(schema @ Value::Object(_)) => Ok(Some(Shape::JsonSchema(schema))),
        Some(value) => Err(ApiError::field(
            "format",
            format!("format must be \"json\" or a JSON schema, not {value}"),
        )),
    }
}

fn schema_of(value: Value, at: &str) -> Result<Shape> {
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(Shape::JsonSchema(value)),
        _ => Err(ApiError::field(at, format!("{at} must be a JSON schema"))),
    }
}
