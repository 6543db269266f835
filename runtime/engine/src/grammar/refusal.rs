//! Why an answer cannot be held to a shape, in the words of the shape: llguidance speaks of its own parts.
//!
//! In: its error, or rules without an end. Out: one line that says what, where and what to do, with keywords of JSON
//! Schema in quotation marks.

use serde_json::Value;

use crate::shape::Shape;

/// Most references that are named.
const MOST_NAMED: usize = 4;

/// What is wrong with a shape, by llguidance's error.
pub fn of_error(error: &str) -> String {
    if let Some((_, keys)) = error.split_once("Unimplemented keys: ") {
        let keys = keys.trim_matches(['[', ']', ' ', '\n']);
        return format!("{keys} cannot be kept to: leave that out");
    }
    if let Some((_, range)) = error.split_once(" range: min=") {
        let (min, max) = range.split_once(", max=").unwrap_or((range, ""));
        let bounds = [("\"minimum\"", min), ("\"maximum\"", max)];
        let bounds = bounds.iter().filter(|(_, bound)| *bound != "None");
        let bounds: Vec<&str> = bounds.map(|(name, _)| *name).collect();
        return format!(
            "{}: a bound that large cannot be kept to",
            bounds.join(", ")
        );
    }
    if let Some((_, patterns)) = error.split_once("patternProperty regexes ") {
        let patterns = patterns.trim_end_matches(" are not disjoint");
        return format!(
            "\"patternProperties\": a name may match both {patterns}; write patterns that exclude each other"
        );
    }
    if error.contains("oneOf constraints are not supported") {
        return "\"oneOf\" cannot be kept to where more than one of its schemas may hold: use anyOf"
            .to_owned();
    }
    if let Some((_, resource)) = error.split_once("Resource '") {
        let resource = resource.split('\'').next().unwrap_or_default();
        return format!("\"$ref\": {resource:?} is not in the schema, and nothing is fetched");
    }
    if let Some((_, format)) = error.split_once("Unknown format: ") {
        return format!("\"format\": {format:?} is not known");
    }
    if error.contains("Unsatisfiable schema: Regex is empty") {
        return "no text can meet it: pattern, format and lengths of a string leave none"
            .to_owned();
    }
    match error.split_once("Unsatisfiable schema: ") {
        Some((_, reason)) => format!("no value can meet it: {reason}"),
        None => error.to_owned(),
    }
}

/// That nothing can be of a shape whose `rules` only lead back to each other.
pub fn of_endless(shape: &Shape, rules: &[&str]) -> String {
    if let Shape::JsonSchema(schema) = shape {
        let mut named = Vec::new();
        references(schema, &mut named);
        let named = named.join(", ");
        return format!(
            "no value can meet it: by \"$ref\" ({named}) it needs itself within it, without an end; take a property on the way \
             out of required, or let it be null or an empty array, too"
        );
    }
    // Of the second of a name, llguidance makes `name#2`; its own have none.
    let mut names = rules.iter().filter_map(|rule| rule.split('#').next());
    let name = names.find(|name| !name.is_empty()).unwrap_or("start");
    format!(
        "no text can be of it: the rule {name} needs itself within it, without an end; give it an alternative that does not"
    )
}

/// What a schema refers to.
fn references(schema: &Value, named: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(to) if named.len() < MOST_NAMED && !named.iter().any(|one| one == to) => {
                        named.push(to.to_owned());
                    }
                    Some(_) => {}
                    None => references(value, named),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, named)),
        _ => {}
    }
}

/// Why an answer that was held to a shape could not go on. The library's words hold its state, and what was written.
pub fn of_stuck(error: &str) -> String {
    match error.contains("lexer error") || error.contains("parser error") {
        true => "it takes too many steps to find out what may come next; ask for fewer repetitions and alternatives",
        false => "nothing that it allows can come next",
    }
    .to_owned()
}
