//! Makes a tiny qwen2 model with random weights and the vocabulary and chat template of a real one:
//! `tiny_r1 HEADER.gguf OUT.gguf [TOKEN...]`.
//!
//! With tokens, as the vocabulary spells them, it is a model that after the first of them says the second,
//! after that the third, and so on.
//!
//! HEADER may be the cut-off beginning of a qwen2 file, such as R1-Distill-Qwen's; only its header is
//! read. What comes out speaks nonsense, but is loaded, templated and tokenized as the real model is,
//! in 16 MB. The same input gives the same bytes.

use std::path::Path;

use cloister_gguf::{Array, Gguf, TensorInfo, TensorType, Value, Writer};

const LAYERS: u64 = 2;
const HIDDEN: u64 = 64;
const FEED_FORWARD: u64 = 128;
const HEADS: u64 = 2;
const HEADS_KV: u64 = 1;
const HEAD: u64 = HIDDEN / HEADS;
const CONTEXT: u32 = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, header, out, script @ ..] = &args[..] else {
        eprintln!("usage: tiny_r1 HEADER.gguf OUT.gguf [TOKEN...]");
        std::process::exit(2);
    };
    let source = Gguf::open_header(Path::new(header))?;
    if source.require_str("general.architecture")? != "qwen2" {
        return Err(format!("{header}: the architecture must be qwen2").into());
    }
    let Some(Value::Array(Array::String(tokens))) = source.metadata.get("tokenizer.ggml.tokens")
    else {
        return Err(format!("{header}: no tokenizer.ggml.tokens").into());
    };
    let vocabulary = tokens.len() as u64;
    let script = script
        .iter()
        .map(|token| {
            let found = tokens.iter().position(|known| known == token.as_bytes());
            found.ok_or_else(|| format!("{header}: no token {token:?}"))
        })
        .collect::<Result<Vec<usize>, _>>()?;

    let mut metadata = source.metadata;
    metadata.set("general.name", "Tiny random qwen2");
    metadata.set("general.file_type", 7u32); // mostly Q8_0
    // R1's later checkpoints open the thought in the template; random weights never write the tag.
    let template = metadata
        .str("tokenizer.chat_template")
        .ok_or("the header has no chat template")?
        .replace(
            "and not ns.is_tool %}{{'<｜Assistant｜>'}}",
            "and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}",
        );
    metadata.set("tokenizer.chat_template", template.as_str());
    for (key, value) in [
        ("block_count", LAYERS as u32),
        ("context_length", CONTEXT),
        ("embedding_length", HIDDEN as u32),
        ("feed_forward_length", FEED_FORWARD as u32),
        ("attention.head_count", HEADS as u32),
        ("attention.head_count_kv", HEADS_KV as u32),
    ] {
        metadata.set(&format!("qwen2.{key}"), value);
    }

    let mut all = tensors(vocabulary);
    if !script.is_empty() {
        let dims = vec![HIDDEN, vocabulary];
        let output = TensorInfo::new("output.weight", dims, TensorType::Q8_0);
        all.push(output.expect("rows are multiples of 32"));
    }
    let mut writer = Writer::create(Path::new(out), &metadata, all)?;
    let mut embedding = Vec::new();
    let mut random = SplitMix64(1);
    while let Some(tensor) = writer.next_tensor().cloned() {
        let bytes = match tensor.tensor_type {
            _ if tensor.name == "output.weight" => {
                // The row of what is to be said next is the embedding of what was said: where nothing
                // else moves the residual stream, no other row is so near to it.
                let row = HIDDEN as usize / 32 * 34;
                let mut bytes = vec![0; tensor.bytes() as usize];
                for said in script.windows(2) {
                    let from: &[u8] = &embedding[said[0] * row..][..row];
                    bytes[said[1] * row..][..row].copy_from_slice(from);
                }
                bytes
            }
            _ if !script.is_empty()
                && (tensor.name.ends_with("attn_output.weight")
                    || tensor.name.ends_with("ffn_down.weight")) =>
            {
                vec![0; tensor.bytes() as usize]
            }
            TensorType::Q8_0 => random_q8_0(&mut random, tensor.elements()),
            _ if tensor.name.ends_with("bias") => vec![0; tensor.bytes() as usize],
            _ => 1f32.to_le_bytes().repeat(tensor.elements() as usize), // norms
        };
        writer.write(&bytes)?;
        if tensor.name == "token_embd.weight" {
            embedding = bytes;
        }
    }
    writer.finish()?;
    Ok(())
}

/// The tensors of a qwen2 model whose output shares the token embedding.
fn tensors(vocabulary: u64) -> Vec<TensorInfo> {
    let tensor = |name: String, dims: &[u64]| {
        let quantized = dims.len() == 2;
        let tensor_type = if quantized {
            TensorType::Q8_0
        } else {
            TensorType::F32
        };
        TensorInfo::new(name, dims.to_vec(), tensor_type).expect("rows are multiples of 32")
    };
    let kv = HEAD * HEADS_KV;
    let mut all = vec![
        tensor("token_embd.weight".into(), &[HIDDEN, vocabulary]),
        tensor("output_norm.weight".into(), &[HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let in_layer = |name: &str, dims: &[u64]| tensor(format!("blk.{layer}.{name}"), dims);
        all.extend([
            in_layer("attn_norm.weight", &[HIDDEN]),
            in_layer("attn_q.weight", &[HIDDEN, HIDDEN]),
            in_layer("attn_q.bias", &[HIDDEN]),
            in_layer("attn_k.weight", &[HIDDEN, kv]),
            in_layer("attn_k.bias", &[kv]),
            in_layer("attn_v.weight", &[HIDDEN, kv]),
            in_layer("attn_v.bias", &[kv]),
            in_layer("attn_output.weight", &[HIDDEN, HIDDEN]),
            in_layer("ffn_norm.weight", &[HIDDEN]),
            in_layer("ffn_gate.weight", &[HIDDEN, FEED_FORWARD]),
            in_layer("ffn_up.weight", &[HIDDEN, FEED_FORWARD]),
            in_layer("ffn_down.weight", &[FEED_FORWARD, HIDDEN]),
        ]);
    }
    all
}

/// Q8_0 blocks: an F16 scale, then 32 signed bytes.
fn random_q8_0(random: &mut SplitMix64, elements: u64) -> Vec<u8> {
    const SCALE: u16 = 0x1419; // 0.001 in F16: weights of at most 0.13, as a trained model's
    let mut bytes = Vec::with_capacity(elements as usize / 32 * 34);
    for _ in 0..elements / 32 {
        bytes.extend(SCALE.to_le_bytes());
        for _ in 0..4 {
            // -128 is a byte that no Q8_0 quantizer makes.
            bytes.extend(
                random
                    .next()
                    .to_le_bytes()
                    .map(|b| if b == 0x80 { 0 } else { b }),
            );
        }
    }
    bytes
}

/// The SplitMix64 generator (Steele, Lea and Flood, 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
