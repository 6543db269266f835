//! Weights that follow from a formula, and the safetensors files that hold them.
//! `make_hugging_face_fixtures.py` knows the same formula.

use serde_json::{Value, json};

/// A tensor of a safetensors file.
pub struct Stored {
    pub name: String,
    /// As the format calls it: `BF16`.
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Stored {
    /// The tensor `name` as a checkpoint of `dtype`, torch's name, has it: one, or FP8 and its scales.
    pub fn of(name: &str, shape: &[u64], dtype: &str) -> Vec<Stored> {
        let count = shape.iter().product();
        let values = weights(name, count, if shape.len() == 1 { 128.0 } else { 256.0 });
        let floats = |dtype| Stored::floats(name, shape, &values, dtype);
        let matrix = shape.len() == 2 && name.contains(".layers.");
        match dtype {
            // It is F32 beside whatever type.
            _ if name.ends_with("e_score_correction_bias") => vec![floats("F32")],
            "float32" => vec![floats("F32")],
            "float16" => vec![floats("F16")],
            "float8_e4m3fn" if matrix && !name.ends_with("mlp.gate.weight") => {
                // Any code but NaN, which is 127 of either sign.
                let code = |n: u64| (n % 127 + n / 127 % 2 * 128) as u8;
                let codes = Stored {
                    name: name.to_owned(),
                    dtype: "F8_E4M3",
                    shape: shape.to_vec(),
                    bytes: noise(name, count).map(code).collect(),
                };
                let name = format!("{name}_scale_inv");
                let blocks: Vec<u64> = shape.iter().map(|n| n.div_ceil(128)).collect();
                let scales: Vec<f32> = noise(&name, blocks.iter().product())
                    .map(|n| (n + 1) as f32 / (1 << 17) as f32)
                    .collect();
                vec![codes, Stored::floats(&name, &blocks, &scales, "F32")]
            }
            _ => vec![floats("BF16")],
        }
    }

    /// The tensor `name` with its entry in a header, out of the bytes behind the header.
    pub fn entry(name: &str, entry: &Value, data: &[u8]) -> Stored {
        let number = |value: &Value| value.as_u64().unwrap();
        let offsets = &entry["data_offsets"];
        let (begin, end) = (number(&offsets[0]) as usize, number(&offsets[1]) as usize);
        let dtype = entry["dtype"].as_str().unwrap();
        let known = ["F32", "F16", "BF16", "F8_E4M3"];
        Stored {
            name: name.to_owned(),
            dtype: known.into_iter().find(|known| *known == dtype).unwrap(),
            shape: entry["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(number)
                .collect(),
            bytes: data[begin..end].to_vec(),
        }
    }

    fn floats(name: &str, shape: &[u64], values: &[f32], dtype: &'static str) -> Stored {
        let bytes = |value: &f32| match dtype {
            "F32" => value.to_le_bytes().to_vec(),
            "BF16" => value.to_le_bytes()[2..].to_vec(),
            _ => f16_bits(*value).to_le_bytes().to_vec(),
        };
        Stored {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(bytes).collect(),
        }
    }
}

/// Pseudo-random whole numbers from 0 to 254.
fn noise(name: &str, count: u64) -> impl Iterator<Item = u64> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv) >> 32;
    (0..count).map(move |i| ((i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 255)
}

/// k / `divisor` with |k| <= 127, which F16 and BF16 hold exactly.
fn weights(name: &str, count: u64, divisor: f32) -> Vec<f32> {
    let value = |k: u64| (k as f32 - 127.0) / divisor;
    noise(name, count).map(value).collect()
}

/// A safetensors file.
pub fn safetensors(tensors: &[Stored]) -> Vec<u8> {
    let mut file = header(
        tensors
            .iter()
            .map(|t| (&t.name[..], t.dtype, &t.shape[..], t.bytes.len())),
    );
    tensors.iter().for_each(|t| file.extend(&t.bytes));
    file
}

/// The start of a safetensors file whose tensors, by name, type, shape and bytes, lie one behind the
/// other.
pub fn header<'t>(tensors: impl Iterator<Item = (&'t str, &'t str, &'t [u64], usize)>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut begin = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = begin + bytes;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.to_owned(), entry);
        begin = end;
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file
}

/// F16 of a value that it holds exactly, neither subnormal nor too large.
fn f16_bits(value: f32) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    (bits >> 16 & 0x8000) as u16 | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}
