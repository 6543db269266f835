//! Hugging Face folders for tests: the fixtures' configs and tokenizers, with weights that follow
//! from a formula. `make_hugging_face_fixtures.py` knows the same formula.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hugging_face");

/// A checkpoint folder in a temporary place.
pub struct Folder {
    parent: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    /// A copy of the fixture `name`, with its weights.
    pub fn of(name: &str) -> Folder {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(name);
        std::fs::create_dir(&path).unwrap();
        for entry in std::fs::read_dir(Path::new(FIXTURES).join(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "expected.json" {
                std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
            }
        }
        let folder = Folder { parent, path };
        folder.write_weights();
        folder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path beside the folder for what is made of it.
    pub fn out(&self) -> PathBuf {
        self.parent.path().join("out.gguf")
    }

    pub fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path.join(file)).unwrap()).unwrap()
    }

    /// Replaces a JSON file by what `change` makes of it.
    pub fn change(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(file);
        change(&mut value);
        std::fs::write(self.path.join(file), value.to_string()).unwrap();
    }

    /// What the fixture expects of its conversion.
    pub fn expected(&self) -> Value {
        let name = self.path.file_name().unwrap();
        let path = Path::new(FIXTURES).join(name).join("expected.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Writes the safetensors files for the config as it is now.
    pub fn write_weights(&self) {
        let index = self.path.join("model.safetensors.index.json");
        let stored = self.expected()["stored"].as_str().unwrap().to_owned();
        let mut files: BTreeMap<String, Vec<(String, Vec<u64>)>> = BTreeMap::new();
        for (name, shape) in tensors(&self.json("config.json")) {
            let file = match index.exists() {
                true => self.json("model.safetensors.index.json")["weight_map"][&name].clone(),
                false => json!("model.safetensors"),
            };
            files
                .entry(file.as_str().unwrap().to_owned())
                .or_default()
                .push((name, shape));
        }
        for (file, tensors) in files {
            let tensors: Vec<_> = tensors
                .into_iter()
                .map(|(name, shape)| {
                    let values = weights(&name, shape.iter().product());
                    (name, shape, values)
                })
                .collect();
            std::fs::write(self.path.join(file), safetensors(&stored, &tensors)).unwrap();
        }
    }
}

/// Names and shapes of the tensors that transformers stores for a config.
fn tensors(config: &Value) -> Vec<(String, Vec<u64>)> {
    let n = |field: &str| config[field].as_u64();
    let (hidden, feed_forward) = (n("hidden_size").unwrap(), n("intermediate_size").unwrap());
    let (heads, heads_kv) = (
        n("num_attention_heads").unwrap(),
        n("num_key_value_heads").unwrap(),
    );
    let head = n("head_dim").unwrap_or(hidden / heads);
    let vocabulary = n("vocab_size").unwrap();
    let llama = config["architectures"][0] == "LlamaForCausalLM";
    let mut tensors = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![vocabulary, hidden],
        ),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    if config["tie_word_embeddings"] == false {
        tensors.push(("lm_head.weight".to_owned(), vec![vocabulary, hidden]));
    }
    for layer in 0..n("num_hidden_layers").unwrap() {
        for (name, rows, columns, bias) in [
            ("self_attn.q_proj", heads * head, hidden, true),
            ("self_attn.k_proj", heads_kv * head, hidden, true),
            ("self_attn.v_proj", heads_kv * head, hidden, true),
            ("self_attn.o_proj", hidden, heads * head, llama),
            ("mlp.gate_proj", feed_forward, hidden, false),
            ("mlp.up_proj", feed_forward, hidden, false),
            ("mlp.down_proj", hidden, feed_forward, false),
        ] {
            tensors.push((
                format!("model.layers.{layer}.{name}.weight"),
                vec![rows, columns],
            ));
            if bias {
                tensors.push((format!("model.layers.{layer}.{name}.bias"), vec![rows]));
            }
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![hidden]));
        }
    }
    tensors
}

/// The formula: k / 128 with |k| <= 127, which F16 and BF16 hold exactly.
fn weights(name: &str, count: u64) -> Vec<f32> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv) >> 32;
    let k = |i: u64| ((i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 255;
    (0..count).map(|i| (k(i) as f32 - 127.0) / 128.0).collect()
}

/// A safetensors file of tensors with name, shape and values; `stored` is torch's name of the type.
pub fn safetensors(stored: &str, tensors: &[(String, Vec<u64>, Vec<f32>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let begin = data.len();
        let dtype = match stored {
            "float32" => {
                values.iter().for_each(|v| data.extend(v.to_le_bytes()));
                "F32"
            }
            "bfloat16" => {
                values
                    .iter()
                    .for_each(|v| data.extend(&v.to_le_bytes()[2..]));
                "BF16"
            }
            _ => {
                values
                    .iter()
                    .for_each(|v| data.extend(f16_bits(*v).to_le_bytes()));
                "F16"
            }
        };
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
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
