//! The checkpoints that DeepSeek has published, in their real sizes: their own config files, and weights that are
//! holes in sparse files, for what never reads them. `make_published_fixtures.py` records `fixtures/published`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::shapes::shapes;
use super::stored::header;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Shards of a folder that has them; their names are those of the checkpoints of January 2025, whose two
/// numbers have different lengths.
const SHARDS: usize = 4;

/// A checkpoint's folder in a temporary place.
pub struct Published {
    parent: tempfile::TempDir,
    name: &'static str,
    /// What the fixture holds: the files, and what upstream's converter makes of them.
    pub recorded: Value,
}

impl Published {
    /// The checkpoint `name`, such as `DeepSeek-R1`.
    pub fn of(name: &'static str) -> Published {
        let file = format!("{FIXTURES}/published/{name}.json");
        let recorded: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let published = Published {
            parent,
            name,
            recorded,
        };
        let folder = published.folder();
        std::fs::create_dir(&folder).unwrap();
        let said = |field: &str| published.recorded[field].to_string();
        for (file, content) in [
            ("config.json", said("config")),
            ("generation_config.json", said("generation_config")),
            (
                "README.md",
                published.recorded["card"].as_str().unwrap().to_owned(),
            ),
        ] {
            std::fs::write(folder.join(file), content).unwrap();
        }
        let tokenizer = published.recorded["tokenizer"].as_str().unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            let from = format!("{FIXTURES}/hugging_face/{tokenizer}/{file}");
            std::fs::copy(from, folder.join(file)).unwrap();
        }
        published.write_holes();
        published
    }

    pub fn folder(&self) -> PathBuf {
        self.parent.path().join(self.name)
    }

    /// The weights.
    fn write_holes(&self) {
        let config = &self.recorded["config"];
        let fp8 = !config["quantization_config"].is_null();
        let tensors = tensors(config);
        let mut index = serde_json::Map::new();
        for (number, part) in tensors.chunks(tensors.len().div_ceil(SHARDS)).enumerate() {
            let file = format!("model-{:05}-of-{SHARDS:06}.safetensors", number + 1);
            let stored: Vec<_> = part.iter().flat_map(|t| kept_as(t, fp8)).collect();
            let entries = stored.iter().map(|(name, dtype, shape, size)| {
                let bytes = shape.iter().product::<u64>() as usize * size;
                (name.as_str(), *dtype, shape.as_slice(), bytes)
            });
            let data: usize = entries.clone().map(|entry| entry.3).sum();
            let header = header(entries);
            write_with_hole(&self.folder().join(&file), &header, data);
            let names = stored.iter().map(|entry| entry.0.clone());
            index.extend(names.map(|name| (name, json!(file))));
        }
        let index = json!({ "weight_map": index }).to_string();
        std::fs::write(self.folder().join("model.safetensors.index.json"), index).unwrap();
    }
}

fn write_with_hole(path: &Path, header: &[u8], data: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(header).unwrap();
    file.set_len((header.len() + data) as u64).unwrap();
}

/// All tensors of a checkpoint, the layer that predicts a further token included.
fn tensors(config: &Value) -> Vec<(String, Vec<u64>)> {
    let mut tensors = shapes(config);
    let number = |field: &str| config[field].as_u64().unwrap();
    if config["num_nextn_predict_layers"].is_null() {
        return tensors;
    }
    let layers = number("num_hidden_layers");
    let (last, extra) = (
        format!("model.layers.{}.", layers - 1),
        format!("model.layers.{layers}."),
    );
    tensors.retain(|(name, _)| !name.starts_with(&extra));
    let copied: Vec<_> = tensors
        .iter()
        .filter_map(|(name, shape)| {
            let rest = name.strip_prefix(&last)?;
            Some((format!("{extra}{rest}"), shape.clone()))
        })
        .collect();
    tensors.extend(copied);
    let (hidden, words) = (number("hidden_size"), number("vocab_size"));
    let own = [
        ("embed_tokens", vec![words, hidden]),
        ("shared_head.head", vec![words, hidden]),
        ("shared_head.norm", vec![hidden]),
        ("enorm", vec![hidden]),
        ("hnorm", vec![hidden]),
        ("eh_proj", vec![hidden, 2 * hidden]),
    ];
    tensors.extend(own.map(|(name, shape)| (format!("{extra}{name}.weight"), shape)));
    tensors
}

/// A tensor as it is stored: name, type, shape and bytes of an element.
type Kept = (String, &'static str, Vec<u64>, usize);

fn kept_as((name, shape): &(String, Vec<u64>), fp8: bool) -> Vec<Kept> {
    let kept = |dtype, size| vec![(name.clone(), dtype, shape.clone(), size)];
    if name.ends_with("e_score_correction_bias") {
        return kept("F32", 4);
    }
    let in_block = name.contains(".self_attn.") || name.contains(".mlp.");
    if !fp8 || shape.len() == 1 || !in_block || name.ends_with("mlp.gate.weight") {
        return kept("BF16", 2);
    }
    let blocks = shape.iter().map(|n| n.div_ceil(128)).collect();
    let mut both = kept("F8_E4M3", 1);
    both.push((format!("{name}_scale_inv"), "F32", blocks, 4));
    both
}
