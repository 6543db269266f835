//! Makes a tiny BERT with random weights that embeds: `tiny_bert OUT.gguf [mean|cls]`, `mean` unless said.
//!
//! What comes out means nothing, but is loaded, tokenized (by WordPiece, with letters and a few words) and pooled as
//! the small embedding models are. The same input gives the same bytes. `runtime/engine/tests/golden/embeddings.py`
//! makes the same model with transformers: both have to agree on the order of the tensors and on the generator.

use std::path::Path;

use cloister_gguf::{Array, Metadata, StringArray, TensorInfo, TensorType, Value, Writer};

const HIDDEN: u64 = 32;
const FEED_FORWARD: u64 = 64;
const HEADS: u32 = 2;
const LAYERS: u64 = 2;
const CONTEXT: u64 = 48;

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WORDS: &str = "the cat sat on mat sky is blue why water wet . , ? !";
const ENDINGS: &str = "s ing ed ly";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (out, pooling) = match args[..] {
        [_, out] | [_, out, "mean"] => (out, 1),
        [_, out, "cls"] => (out, 2),
        _ => {
            eprintln!("usage: tiny_bert OUT.gguf [mean|cls]");
            std::process::exit(2);
        }
    };
    write(Path::new(out), pooling)?;
    Ok(())
}

/// Writes the model; `pooling` is llama.cpp's number of how vectors of tokens become one.
pub fn write(out: &Path, pooling: u32) -> cloister_gguf::Result<()> {
    let vocabulary = vocabulary();
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", "bert");
    metadata.set("general.name", "Tiny random BERT");
    metadata.set("general.file_type", 0u32);
    for (key, value) in [
        ("block_count", LAYERS as u32),
        ("context_length", CONTEXT as u32),
        ("embedding_length", HIDDEN as u32),
        ("feed_forward_length", FEED_FORWARD as u32),
        ("attention.head_count", HEADS),
        ("pooling_type", pooling),
    ] {
        metadata.set(&format!("bert.{key}"), value);
    }
    metadata.set("bert.attention.layer_norm_epsilon", 1e-12f32);
    metadata.set("bert.attention.causal", false);
    metadata.set("tokenizer.ggml.model", "bert");
    let types = (0..vocabulary.len()).map(|i| if i < SPECIAL.len() { 3 } else { 1 });
    let types = Value::Array(Array::I32(types.collect()));
    metadata.set("tokenizer.ggml.token_type", types);
    metadata.set("tokenizer.ggml.token_type_count", 2u32);
    for (i, name) in ["padding", "unknown", "cls", "seperator", "mask"]
        .iter()
        .enumerate()
    {
        metadata.set(&format!("tokenizer.ggml.{name}_token_id"), i as u32);
    }
    metadata.set("tokenizer.ggml.bos_token_id", 2u32);
    let tensors = tensors(vocabulary.len() as u64);
    let tokens: StringArray = vocabulary.into_iter().collect();
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));

    let mut writer = Writer::create(out, &metadata, tensors)?;
    let mut random = 1u64;
    while let Some(tensor) = writer.next_tensor().cloned() {
        let around = f32::from(u8::from(tensor.name.ends_with("norm.weight")));
        let values = (0..tensor.elements()).flat_map(|_| {
            // Knuth's MMIX generator.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = (random >> 40) as f32 / (1 << 24) as f32 - 0.5;
            (around + value).to_le_bytes()
        });
        let bytes: Vec<u8> = values.collect();
        writer.write(&bytes)?;
    }
    writer.finish()
}

/// As llama.cpp has it: what begins a word has a mark in front.
fn vocabulary() -> Vec<String> {
    let letters = || ('a'..='z').map(String::from);
    let words = WORDS.split(' ').map(str::to_owned).chain(letters());
    let endings = ENDINGS.split(' ').map(str::to_owned);
    let inside = endings.chain(letters().filter(|letter| letter != "s"));
    let special = SPECIAL.map(str::to_owned).into_iter();
    special
        .chain(words.map(|word| format!("▁{word}")))
        .chain(inside)
        .collect()
}

fn tensors(vocabulary: u64) -> Vec<TensorInfo> {
    let tensor = |name: String, dims: &[u64]| {
        TensorInfo::new(name, dims.to_vec(), TensorType::F32).expect("a sound shape")
    };
    let mut all = vec![
        tensor("token_embd.weight".into(), &[HIDDEN, vocabulary]),
        tensor("position_embd.weight".into(), &[HIDDEN, CONTEXT]),
        tensor("token_types.weight".into(), &[HIDDEN, 2]),
    ];
    let mut both = |name: String, dims: &[u64]| {
        let out = *dims.last().expect("a shape");
        all.push(tensor(format!("{name}.weight"), dims));
        all.push(tensor(format!("{name}.bias"), &[out]));
    };
    both("token_embd_norm".into(), &[HIDDEN]);
    for layer in 0..LAYERS {
        for (name, dims) in [
            ("attn_q", &[HIDDEN, HIDDEN][..]),
            ("attn_k", &[HIDDEN, HIDDEN]),
            ("attn_v", &[HIDDEN, HIDDEN]),
            ("attn_output", &[HIDDEN, HIDDEN]),
            ("attn_output_norm", &[HIDDEN]),
            ("ffn_up", &[HIDDEN, FEED_FORWARD]),
            ("ffn_down", &[FEED_FORWARD, HIDDEN]),
            ("layer_output_norm", &[HIDDEN]),
        ] {
            both(format!("blk.{layer}.{name}"), dims);
        }
    }
    all
}
