//! The filter `tojson` as chat templates mean it: Python's `json.dumps`, which puts a space after each comma and
//! colon and escapes nothing for HTML, as Jinja's own does.

use std::io;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, State};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::limits;

/// Spaces for each level; a template could ask for a gigabyte.
const MOST_INDENT: usize = 16;

/// `value | tojson`, `value | tojson(indent=4)`.
pub fn filter(
    state: &State<'_, '_>,
    value: &minijinja::Value,
    options: Kwargs,
) -> Result<minijinja::Value, Error> {
    let value = limits::weighed(state, value)?;
    let indent: Option<usize> = options.get("indent")?;
    if indent.is_some_and(|indent| indent > MOST_INDENT) {
        let message = format!("tojson indents by at most {MOST_INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    for ignored in ["ensure_ascii", "sort_keys", "separators"] {
        let _ = options.get::<Option<minijinja::Value>>(ignored);
    }
    options.assert_all_used()?;
    let value = serde_json::to_value(&value);
    let text = value.and_then(|value| match indent {
        None => json_dumps(&value),
        Some(n) => written(
            &value,
            PrettyFormatter::with_indent(" ".repeat(n).as_bytes()),
        ),
    });
    // What is JSON is text like any other in a prompt.
    text.map(minijinja::Value::from)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// JSON on one line with a space after each comma and colon.
pub fn json_dumps(value: &Value) -> serde_json::Result<String> {
    written(value, Spaced)
}

fn written(value: &Value, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_python_writes() {
        let value: Value =
            serde_json::from_str(r#"{"b":[1,2.5,true,null],"a":{"x":"<é'&\n>"},"c":[]}"#).unwrap();
        assert_eq!(
            json_dumps(&value).unwrap(),
            r#"{"b": [1, 2.5, true, null], "a": {"x": "<é'&\n>"}, "c": []}"#
        );
    }
}
