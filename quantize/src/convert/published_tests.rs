//! Every checkpoint that DeepSeek has published, in its real sizes: what is planned for its folder has the keys
//! and the tensors that llama.cpp's converter writes. `tests/fixtures/published` holds the config files and what
//! that converter said, with the script that recorded it: `make_published_fixtures.py`. The weights are holes in
//! sparse files, as nobody reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

#[allow(dead_code)]
#[path = "../../tests/support/recorded.rs"]
mod recorded;
#[allow(dead_code)]
#[path = "../../tests/support/hugging_face/shapes.rs"]
mod shapes;
#[allow(dead_code)]
#[path = "../../tests/support/hugging_face/stored.rs"]
mod stored;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Shards of a folder that has them; their names are those of the checkpoints of January 2025, whose two
/// numbers have different lengths.
const SHARDS: usize = 4;

struct Published {
    parent: tempfile::TempDir,
    name: &'static str,
    recorded: Value,
}

impl Published {
    fn of(name: &'static str) -> Published {
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

    fn folder(&self) -> PathBuf {
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
            let header = stored::header(entries);
            write_with_hole(&self.folder().join(&file), &header, data);
            let names = stored.iter().map(|entry| entry.0.clone());
            index.extend(names.map(|name| (name, json!(file))));
        }
        let index = json!({ "weight_map": index }).to_string();
        std::fs::write(self.folder().join("model.safetensors.index.json"), index).unwrap();
    }

    fn plan(&self, file_type: FileType) -> Plan {
        let inputs = Inputs::open(&self.folder(), None).unwrap();
        inputs.plan(&Recipe::of(file_type)).unwrap()
    }
}

fn write_with_hole(path: &Path, header: &[u8], data: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(header).unwrap();
    file.set_len((header.len() + data) as u64).unwrap();
}

/// All tensors of a checkpoint, the layer that predicts a further token included.
fn tensors(config: &Value) -> Vec<(String, Vec<u64>)> {
    let mut tensors = shapes::shapes(config);
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

/// Number of tensors by name, layers left out, shape and type.
fn kinds(targets: &[TensorInfo]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for tensor in targets {
        let name = match tensor.name.strip_prefix("blk.") {
            None => tensor.name.clone(),
            Some(rest) => format!("blk.N.{}", rest.split_once('.').unwrap().1),
        };
        let kind = format!("{name} {:?} {}", tensor.dims, tensor.tensor_type.name());
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn assert_as_upstream(name: &'static str) {
    let published = Published::of(name);
    let plan = published.plan(FileType::BF16);
    let metadata: serde_json::Map<_, _> = plan
        .source
        .metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), recorded::recorded(value)))
        .collect();
    let expected = published.recorded["metadata"].as_object().unwrap();
    for (key, value) in expected {
        assert_eq!(metadata.get(key), Some(value), "{name}: {key}");
    }
    for key in metadata.keys() {
        assert!(
            expected.contains_key(key),
            "{name}: {key} is not upstream's"
        );
    }
    let expected: BTreeMap<String, u64> =
        serde_json::from_value(published.recorded["tensors"].clone()).unwrap();
    assert_eq!(kinds(&plan.targets), expected, "{name}");
}

#[test]
fn the_distills_of_qwen() {
    for size in ["1.5B", "7B", "14B", "32B"] {
        let name = format!("DeepSeek-R1-Distill-Qwen-{size}");
        assert_as_upstream(name.leak());
    }
    assert_as_upstream("DeepSeek-R1-0528-Qwen3-8B");
}

#[test]
fn the_distills_of_llama() {
    assert_as_upstream("DeepSeek-R1-Distill-Llama-8B");
    assert_as_upstream("DeepSeek-R1-Distill-Llama-70B");
}

#[test]
fn r1_r1_0528_r1_zero_and_v3() {
    for name in [
        "DeepSeek-R1",
        "DeepSeek-R1-0528",
        "DeepSeek-R1-Zero",
        "DeepSeek-V3",
    ] {
        assert_as_upstream(name);
    }
}
