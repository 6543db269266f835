//! `cloister-quantize inspect`: what a GGUF file holds, as a table for people or as stable JSON.
//!
//! In: a file of which at least the header is whole. Out: the description; whether the data is all
//! there is part of it. It must never read tensor data.

use std::fmt::Write;

use cloister_gguf::{Array, Gguf, TensorInfo, Value};
use serde_json::{Map, Value as Json, json};

use crate::file_type;
use crate::running::Running;
use crate::tensor_class::{ClassSum, by_class};

/// Elements of an array that JSON shows; people see as many as fit on a line.
const SHOWN_ELEMENTS: usize = 8;

/// Characters of a value that a table row shows.
const SHOWN_CHARACTERS: usize = 60;

fn file_type_name(gguf: &Gguf) -> Option<&'static str> {
    gguf.metadata
        .u64("general.file_type")
        .and_then(file_type::name_of)
}

/// A table of metadata and tensors, for people.
pub fn table(gguf: &Gguf, running: &Running) -> String {
    let mut out = String::new();
    render_table(gguf, running, &mut out).expect("writing to a String does not fail");
    out
}

fn render_table(gguf: &Gguf, running: &Running, out: &mut String) -> std::fmt::Result {
    let totals = ClassSum::of(&gguf.tensors);
    let architecture = gguf
        .metadata
        .str("general.architecture")
        .unwrap_or("unknown architecture");
    let file_type = file_type_name(gguf).unwrap_or("unknown type");
    writeln!(
        out,
        "GGUF v{}, {}, {file_type}: {} parameters, {} in tensors, {:.2} bits per weight",
        gguf.version,
        printable(architecture),
        count(totals.parameters),
        size(totals.bytes),
        totals.bits_per_weight()
    )?;

    writeln!(out, "\n{} keys", gguf.metadata.len())?;
    let width = gguf
        .metadata
        .iter()
        .map(|(key, _)| key.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    for (key, value) in gguf.metadata.iter() {
        let key = printable(key);
        writeln!(
            out,
            "  {key:width$}  {:14}  {}",
            type_of(value),
            shown(value)
        )?;
    }

    writeln!(
        out,
        "\n{} tensors (shape: row length first)",
        gguf.tensors.len()
    )?;
    let width = gguf
        .tensors
        .iter()
        .map(|t| t.name.chars().count())
        .max()
        .unwrap_or(0);
    for tensor in &gguf.tensors {
        let shape: Vec<String> = tensor.dims.iter().map(u64::to_string).collect();
        let name = printable(&tensor.name);
        writeln!(
            out,
            "  {name:width$}  {:>15}  {:8}  {:>10}  {:>6.3} bits per weight",
            shape.join(" x "),
            tensor.tensor_type.name(),
            size(tensor.bytes()),
            ClassSum::of([tensor]).bits_per_weight()
        )?;
    }

    writeln!(out, "\nby type")?;
    for t in cloister_gguf::TensorType::all() {
        let of_type = || gguf.tensors.iter().filter(|tensor| tensor.tensor_type == t);
        let totals = ClassSum::of(of_type());
        if totals.parameters > 0 {
            let (n, parameters) = (of_type().count(), count(totals.parameters));
            writeln!(
                out,
                "  {:8}  {n:>5} tensors  {parameters:>9} parameters  {:>10}",
                t.name(),
                size(totals.bytes)
            )?;
        }
    }

    writeln!(out, "\nby class")?;
    for (class, sum) in by_class(&gguf.tensors) {
        writeln!(
            out,
            "  {:20}  {:>5} tensors  {:>9} parameters  {:>10}  {:>6.3} bits per weight  {}",
            class.name(),
            sum.tensors,
            count(sum.parameters),
            size(sum.bytes),
            sum.bits_per_weight(),
            sum.type_names()
        )?;
    }

    let memory = running.line(&gguf.metadata, &gguf.tensors);
    writeln!(out, "\nmemory to run it\n  {}", printable(&memory))?;
    Ok(())
}

/// `1234567` as `1.23 M`.
fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.2} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}

/// Bytes in decimal units.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

fn type_of(value: &Value) -> String {
    match value.as_array() {
        Some(array) => format!("{} x {}", array.len(), array.element_type_name()),
        None => value.type_name().to_owned(),
    }
}

/// A value on one line of a table.
fn shown(value: &Value) -> String {
    let text = match json_of(value, SHOWN_ELEMENTS) {
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(Json::to_string).collect();
            elements.join(", ")
        }
        Json::String(text) => text,
        other => other.to_string(),
    };
    let text = printable(&text);
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A text of the file without line breaks and without characters that command a terminal.
fn printable(text: &str) -> String {
    let escaped = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    text.chars().map(escaped).collect()
}

/// The description as JSON. Keys are only ever added.
pub fn json(gguf: &Gguf, running: &Running) -> Json {
    let mut metadata = Map::new();
    for (key, value) in gguf.metadata.iter() {
        let description = match value.as_array() {
            Some(array) => json!({
                "type": "array",
                "element_type": array.element_type_name(),
                "length": array.len(),
                "first": json_of(value, SHOWN_ELEMENTS),
            }),
            None => json!({"type": value.type_name(), "value": json_of(value, 0)}),
        };
        metadata.insert(key.to_owned(), description);
    }
    let tensors: Vec<Json> = gguf.tensors.iter().map(tensor_json).collect();
    let totals = ClassSum::of(&gguf.tensors);
    let mut classes = Map::new();
    for (class, sum) in by_class(&gguf.tensors) {
        let types: Map<String, Json> = sum
            .types
            .iter()
            .map(|(t, elements)| (t.name().to_owned(), json!(elements)))
            .collect();
        let description = json!({
            "tensors": sum.tensors,
            "parameters": sum.parameters,
            "bytes": sum.bytes,
            "bits_per_weight": sum.bits_per_weight(),
            "types": types,
        });
        classes.insert(class.name().to_owned(), description);
    }
    json!({
        "path": gguf.path().to_string_lossy(),
        "version": gguf.version,
        "architecture": gguf.metadata.str("general.architecture"),
        "file_type": file_type_name(gguf),
        "file_bytes": gguf.file_len,
        "complete": gguf.check_data().is_ok(),
        "alignment": gguf.alignment,
        "data_start": gguf.data_start,
        "parameters": totals.parameters,
        "tensor_bytes": totals.bytes,
        "bits_per_weight": totals.bits_per_weight(),
        "classes": classes,
        "memory": running.json(&gguf.metadata, &gguf.tensors),
        "metadata": metadata,
        "tensors": tensors,
    })
}

fn tensor_json(tensor: &TensorInfo) -> Json {
    json!({
        "name": tensor.name,
        "shape": tensor.dims,
        "type": tensor.tensor_type.name(),
        "offset": tensor.offset,
        "bytes": tensor.bytes(),
        "bits_per_weight": ClassSum::of([tensor]).bits_per_weight(),
    })
}

/// A value as JSON, of an array the first `limit` elements. NaN and infinities become null.
fn json_of(value: &Value, limit: usize) -> Json {
    match value {
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
        Value::F32(n) => json!(shortest(*n)),
        Value::F64(n) => json!(n),
        Value::Bool(b) => json!(b),
        Value::String(s) => json!(s),
        Value::Array(array) => match array {
            Array::U8(v) => json!(v[..v.len().min(limit)]),
            Array::I8(v) => json!(v[..v.len().min(limit)]),
            Array::U16(v) => json!(v[..v.len().min(limit)]),
            Array::I16(v) => json!(v[..v.len().min(limit)]),
            Array::U32(v) => json!(v[..v.len().min(limit)]),
            Array::I32(v) => json!(v[..v.len().min(limit)]),
            Array::U64(v) => json!(v[..v.len().min(limit)]),
            Array::I64(v) => json!(v[..v.len().min(limit)]),
            Array::F32(v) => v.iter().take(limit).map(|n| json!(shortest(*n))).collect(),
            Array::F64(v) => json!(v[..v.len().min(limit)]),
            Array::Bool(v) => json!(v[..v.len().min(limit)]),
            Array::String(v) => v
                .iter()
                .take(limit)
                .map(|s| json!(String::from_utf8_lossy(s)))
                .collect(),
        },
    }
}

/// The F64 with the fewest digits that still means this F32: 1e-6, not 9.999999974752427e-7.
fn shortest(n: f32) -> f64 {
    n.to_string().parse().unwrap_or(f64::NAN)
}
