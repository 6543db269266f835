//! What an answer must look like, as a request says it.

use serde_json::{Value, json};

/// A shape that an answer can be held to.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// JSON that this schema allows.
    JsonSchema(Value),
    /// Text that this regular expression matches whole, in the syntax of Rust's `regex`.
    Regex(String),
    /// Text of this grammar, in llguidance's kind of Lark.
    Lark(String),
    /// Text of this grammar, in llama.cpp's GBNF, without references to tokens.
    Gbnf(String),
}

/// A schema whose JSON has a space after each comma and colon and no other white space, as most JSON on one
/// line has: what may be varied, small models vary for ever, and what is fixed need not be drawn.
pub fn spaced(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert_with(
            || json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}),
        );
    }
    schema
}
