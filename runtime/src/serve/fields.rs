//! Reads a JSON object field by field: every field is checked, and one that nobody knows is an
//! error, so that no request is answered other than it was asked.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::api_error::ApiError;

/// The fields of a request that have not been read yet.
pub struct Fields(Map<String, Value>);

type Result<T> = std::result::Result<T, ApiError>;

/// The most values that a body may have, at any depth: three bytes of a body can become hundreds in memory. A
/// conversation has four for each message.
const MOST_VALUES: usize = 1 << 17;

/// Reads a request body that is JSON; what it is not, otherwise, is told in these words.
///
/// # Errors
/// It is none, or has more values than anything that is asked here.
pub fn parsed<T: DeserializeOwned>(body: &[u8], otherwise: &str) -> Result<T> {
    if values(body) > MOST_VALUES {
        return Err(ApiError::too_large(format!(
            "the body has more than {MOST_VALUES} values"
        )));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("{otherwise}: {error}")))
}

/// The places of a text before which values can stand, as far as it is JSON; an object's values count with their keys.
fn values(json: &[u8]) -> usize {
    let (mut values, mut in_text, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

impl Fields {
    /// Parses a request body.
    pub fn parse(body: &[u8]) -> Result<Self> {
        match parsed(body, "the body is no JSON")? {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(ApiError::invalid("the body must be a JSON object")),
        }
    }

    /// An object inside a request.
    pub fn of(value: Value, name: &str) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(ApiError::field(name, format!("{name} must be an object"))),
        }
    }

    /// The field as it is. `null` counts as not given.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Puts a field in the place of what was given.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// The field, which is still to be read.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Whether the field is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A number within `range`.
    pub fn number(&mut self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number.abs() <= f64::from(f32::MAX) => Ok(Some(number as f32)),
            _ => Err(ApiError::field(
                name,
                format!("{name} must be a number, not {value}"),
            )),
        }
    }

    /// A whole number from `min` to `max`, which may be written with a fraction of zero, as in `8.0`.
    pub fn integer(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        // Up to 2^53 a float is the whole number that was written.
        let exact = |number: &f64| number.fract() == 0.0 && number.abs() <= (1u64 << 53) as f64;
        let float = || value.as_f64().filter(exact).map(|number| number as i64);
        let whole = value.as_i64().or_else(float);
        match whole.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::field(
                name,
                format!("{name} must be a whole number from {min} to {max}, not {value}"),
            )),
        }
    }

    /// `true` or `false`; `false` when not given.
    pub fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(value) => Err(ApiError::field(
                name,
                format!("{name} must be true or false, not {value}"),
            )),
        }
    }

    /// Text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::field(name, format!("{name} must be a string"))),
        }
    }

    /// Reads and drops a field that changes nothing in the answer.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }

    /// Refuses a field that this server cannot honour, unless it asks for `harmless` only.
    pub fn refuse(&mut self, name: &str, harmless: &[Value]) -> Result<()> {
        match self.take(name) {
            Some(value) if !harmless.contains(&value) => Err(ApiError::unsupported(
                name,
                format!("{name} is not supported here"),
            )),
            _ => Ok(()),
        }
    }

    /// Ends the reading: what nobody asked for is an error, unless it is `null`, which is not given.
    pub fn finish(self) -> Result<()> {
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::unsupported(
                name.as_str(),
                format!("there is no request field {name:?}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_wherever_they_stand_and_text_is_not() {
        for (text, n) in [
            (r#"{"a": [1, {"b": null}], "c": "d"}"#, 5),
            (r#""[[[,,,{{{""#, 0),
            (r#"["\\", "\",,,", ","]"#, 3),
            ("[[[]]]", 3),
            ("", 0),
        ] {
            assert_eq!(values(text.as_bytes()), n, "{text}");
        }
    }

    #[test]
    fn as_many_values_as_nobody_needs_are_refused_before_they_are_read() {
        let body = |n: usize| format!(r#"{{"a": [{}0]}}"#, "0,".repeat(n - 2));
        assert!(Fields::parse(body(MOST_VALUES).as_bytes()).is_ok());
        assert!(Fields::parse(body(MOST_VALUES + 1).as_bytes()).is_err());
    }
}
