//! Metadata as `make_hugging_face_fixtures.py` records it: small values as they are, arrays by their
//! length and SHA-256.

use cloister_gguf::{Array, Value};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A metadata value as the recording script writes it.
pub fn recorded(value: &Value) -> Json {
    let (kind, value) = match value {
        Value::U32(n) => ("uint32", json!(n)),
        Value::I32(n) => ("int32", json!(n)),
        Value::F32(n) => ("float32", json!(f64::from(*n))),
        Value::Bool(b) => ("bool", json!(b)),
        Value::String(s) => ("string", json!(s)),
        Value::Array(array) => {
            let (kind, texts): (_, Vec<Vec<u8>>) = match array {
                Array::String(v) => ("string", v.iter().map(<[u8]>::to_vec).collect()),
                Array::I32(v) => (
                    "int32",
                    v.iter().map(|n| n.to_string().into_bytes()).collect(),
                ),
                other => panic!("an array of {} is not recorded", other.element_type_name()),
            };
            let hash = sha256(&texts.join(&0));
            (
                "array",
                json!({"element_type": kind, "length": texts.len(), "sha256": hash}),
            )
        }
        other => panic!("a {} is not recorded", other.type_name()),
    };
    json!({"type": kind, "value": value})
}
