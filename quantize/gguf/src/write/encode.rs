//! The bytes of a GGUF header.
//!
//! In: metadata and tensors with their offsets. Out: what stands in the file before the first
//! tensor's data, less the padding.

use crate::{Array, MAGIC, Metadata, TensorInfo, Value};

/// The version that is written.
const VERSION: u32 = 3;

pub fn encode_header(metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(&mut out, key.as_bytes());
        out.extend(value.type_number().to_le_bytes());
        put_value(&mut out, value);
    }
    for tensor in tensors {
        put_string(&mut out, tensor.name.as_bytes());
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        for dim in &tensor.dims {
            out.extend(dim.to_le_bytes());
        }
        out.extend(tensor.tensor_type.number().to_le_bytes());
        out.extend(tensor.offset.to_le_bytes());
    }
    out
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => out.extend(n.to_le_bytes()),
        Value::I8(n) => out.extend(n.to_le_bytes()),
        Value::U16(n) => out.extend(n.to_le_bytes()),
        Value::I16(n) => out.extend(n.to_le_bytes()),
        Value::U32(n) => out.extend(n.to_le_bytes()),
        Value::I32(n) => out.extend(n.to_le_bytes()),
        Value::U64(n) => out.extend(n.to_le_bytes()),
        Value::I64(n) => out.extend(n.to_le_bytes()),
        Value::F32(n) => out.extend(n.to_le_bytes()),
        Value::F64(n) => out.extend(n.to_le_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::String(s) => put_string(out, s.as_bytes()),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type_number().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U16(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U64(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|b| u8::from(*b))),
        Array::String(v) => v.iter().for_each(|s| put_string(out, s)),
    }
}
