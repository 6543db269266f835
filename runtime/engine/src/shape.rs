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
/// line has: what may be varied, small models vary for ever, and what is fixed need not be drawn. So it is with mail
/// addresses, which are bounded.
pub fn spaced(mut schema: Value) -> Value {
    bound(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert_with(
            || json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}),
        );
    }
    schema
}

/// Keywords of one schema, or of a list of them; and of schemas by name.
const OF_SCHEMAS: [&str; 7] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "items",
    "oneOf",
    "prefixItems",
];
const OF_NAMED: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];

/// Says how long the parts of mail addresses may be (RFC 5321, 4.5.3.1; RFC 1035, 2.3.4), in `schema` and those in it:
/// llguidance knows only what they are made of.
fn bound(schema: &mut Value) {
    if let Value::Array(schemas) = schema {
        schemas.iter_mut().for_each(bound);
    }
    let Value::Object(keywords) = schema else {
        return;
    };
    for (keyword, value) in keywords.iter_mut() {
        match value {
            value if OF_SCHEMAS.contains(&&**keyword) => bound(value),
            Value::Object(named) if OF_NAMED.contains(&&**keyword) => {
                named.values_mut().for_each(bound);
            }
            _ => {}
        }
    }
    if keywords.get("format") == Some(&json!("email")) {
        // With another pattern it may be too much for llguidance.
        let pattern = keywords.entry("pattern");
        pattern.or_insert_with(|| json!("^[^@]{1,64}@[^@.]{1,63}([.][^@.]{1,63}){0,7}$"));
    }
}
