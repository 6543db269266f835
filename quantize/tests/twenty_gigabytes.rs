//! Layers of R1 in their real sizes, 24 GB of FP8 in shards, are converted in memory that has nothing
//! to do with their size. The weights are a megabyte that repeats itself.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::time::Instant;

use cloister_gguf::{Gguf, TensorType};
use serde_json::json;
use support::hugging_face::{Folder, Stored, shapes, stored::header};
use support::{binary, peak_memory};

/// What a shard of the published checkpoint has, roughly, in bytes.
const SHARD_BYTES: u64 = 4_300_000_000;

/// Experts whose numbers differ by this have the same weights.
const DIFFERENT_EXPERTS: u64 = 128;

/// A tensor as the header has it. Scales and small ones have their bytes, a large one has bytes of the
/// block that all of them repeat, from this place in it on.
struct Planned {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    bytes: Bytes,
}

enum Bytes {
    Own(Vec<u8>),
    Repeated { from: usize, len: usize },
}

impl Planned {
    fn of(name: &str, shape: &[u64]) -> Vec<Planned> {
        let matrix = shape.len() == 2 && name.contains(".layers.");
        if !matrix || name.ends_with("mlp.gate.weight") {
            let stored = Stored::of(name, shape, "bfloat16").into_iter();
            let own = |s: Stored| Planned {
                name: s.name,
                dtype: s.dtype,
                shape: s.shape,
                bytes: Bytes::Own(s.bytes),
            };
            return stored.map(own).collect();
        }
        let expert = name.split(".experts.").nth(1);
        let expert = expert.map_or(0, |rest| rest.split('.').next().unwrap().parse().unwrap());
        let codes = Planned {
            name: name.to_owned(),
            dtype: "F8_E4M3",
            shape: shape.to_vec(),
            bytes: Bytes::Repeated {
                from: (expert % DIFFERENT_EXPERTS * 4099) as usize,
                len: (shape[0] * shape[1]) as usize,
            },
        };
        let blocks: Vec<u64> = shape.iter().map(|n| n.div_ceil(128)).collect();
        let scale = 2f32.powi(-12).to_le_bytes();
        let scales = Planned {
            name: format!("{name}_scale_inv"),
            dtype: "F32",
            bytes: Bytes::Own(scale.repeat(blocks.iter().product::<u64>() as usize)),
            shape: blocks,
        };
        vec![codes, scales]
    }

    fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Own(bytes) => bytes.len(),
            Bytes::Repeated { len, .. } => *len,
        }
    }

    fn write(&self, block: &[u8], file: &mut impl Write) {
        match self.bytes {
            Bytes::Own(ref bytes) => file.write_all(bytes).unwrap(),
            Bytes::Repeated { mut from, mut len } => {
                while len > 0 {
                    let piece = &block[from..block.len().min(from + len)];
                    file.write_all(piece).unwrap();
                    (from, len) = (0, len - piece.len());
                }
            }
        }
    }
}

/// A checkpoint of three of R1's layers, one of them dense, and its size in bytes.
fn checkpoint() -> (Folder, u64) {
    let folder = Folder::of("tiny-deepseek-fp8");
    for shard in ["model-00001-of-00002", "model-00002-of-00002"] {
        std::fs::remove_file(folder.path().join(format!("{shard}.safetensors"))).unwrap();
    }
    folder.change("config.json", |config| {
        for (field, value) in [
            ("num_hidden_layers", 3),
            ("hidden_size", 7168),
            ("intermediate_size", 18432),
            ("moe_intermediate_size", 2048),
            ("num_attention_heads", 128),
            ("num_key_value_heads", 128),
            ("q_lora_rank", 1536),
            ("kv_lora_rank", 512),
            ("qk_nope_head_dim", 128),
            ("qk_rope_head_dim", 64),
            ("v_head_dim", 128),
            ("n_routed_experts", 256),
            ("n_group", 8),
            ("topk_group", 4),
            ("num_experts_per_tok", 8),
        ] {
            config[field] = json!(value);
        }
    });
    let tensors = shapes(&folder.json("config.json"));
    let mut shards: Vec<Vec<Planned>> = vec![Vec::new()];
    let mut size = 0;
    for planned in tensors
        .iter()
        .flat_map(|(name, shape)| Planned::of(name, shape))
    {
        size += planned.len() as u64;
        if size > shards.len() as u64 * SHARD_BYTES {
            shards.push(Vec::new());
        }
        shards.last_mut().unwrap().push(planned);
    }

    // A megabyte of codes, none of them NaN.
    let mut block = Stored::of(
        "model.layers.0.block.weight",
        &[1024, 1024],
        "float8_e4m3fn",
    );
    let block = block.swap_remove(0).bytes;
    let mut index = BTreeMap::new();
    for (number, shard) in (1..).zip(&shards) {
        let name = format!("model-{number:05}-of-{:05}.safetensors", shards.len());
        let mut file = BufWriter::new(File::create(folder.path().join(&name)).unwrap());
        let entries = shard
            .iter()
            .map(|p| (&p.name[..], p.dtype, &p.shape[..], p.len()));
        file.write_all(&header(entries)).unwrap();
        for planned in shard {
            planned.write(&block, &mut file);
            index.insert(planned.name.clone(), name.clone());
        }
        file.flush().unwrap();
    }
    let index = json!({ "weight_map": index }).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    (folder, size)
}

#[test]
fn they_are_converted_within_two_gibibytes_of_memory() {
    let (folder, size) = checkpoint();
    assert!(size > 20_000_000_000, "{size} bytes");
    let began = Instant::now();
    let mut command = Command::new(binary());
    command.arg("convert").args([folder.path(), &folder.out()]);
    let peak = peak_memory(command.args(["--type", "Q4_0"]));
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.1} GB in {seconds:.0} s, {:.0} MB/s, peak {} MiB",
        size as f64 / 1e9,
        size as f64 / 1e6 / seconds,
        peak >> 20
    );
    assert!(peak <= 2 << 30, "{} MiB", peak >> 20);

    let gguf = Gguf::open(&folder.out()).unwrap();
    let experts = gguf.tensor("blk.2.ffn_down_exps.weight").unwrap();
    assert_eq!(experts.dims, [2048, 7168, 256]);
    assert_eq!(experts.tensor_type, TensorType::Q4_0);
    // Each expert is where it should be.
    let of_expert = |expert: u64| {
        let mut bytes = vec![0; experts.row_bytes() as usize * 100];
        let start = expert * 7168 * experts.row_bytes();
        gguf.read_tensor(experts, start, &mut bytes).unwrap();
        bytes
    };
    assert!(of_expert(3) == of_expert(3 + DIFFERENT_EXPERTS));
    assert!(of_expert(3) != of_expert(4));
    assert!(of_expert(255) != of_expert(3));
}
