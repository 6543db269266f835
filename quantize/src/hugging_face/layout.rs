//! Which tensor of a checkpoint becomes which tensor of a GGUF file.
//!
//! In: the config and the names there are. Out: a slot for each tensor to be written.

use anyhow::{Result, bail};

use super::config::{Architecture, Config};
use super::safetensors::Checkpoint;

/// A tensor to be written.
pub struct Slot {
    pub gguf_name: String,
    /// In PyTorch's order: the last is the length of a row.
    pub shape: Vec<u64>,
    pub contents: Contents,
}

/// What fills a slot.
pub enum Contents {
    /// A tensor of the checkpoint. With `heads`, its rows are those of so many attention heads and
    /// change places as [`rotary_row`] says.
    Stored { name: String, heads: Option<u64> },
    /// Values that follow from the config.
    Computed(Vec<f32>),
}

/// Names in a layer of Hugging Face's and of GGUF's.
const ATTENTION: [(&str, &str); 4] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
];
const FEED_FORWARD: [(&str, &str); 3] = [
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const NORMS: [(&str, &str); 2] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

/// All slots of a model, in the order of their writing.
pub fn slots(config: &Config, checkpoint: &Checkpoint) -> Result<Vec<Slot>> {
    let [hidden, feed_forward, heads, heads_kv, head, vocabulary] = [
        config.hidden,
        config.feed_forward,
        config.heads,
        config.heads_kv,
        config.head,
        config.vocabulary,
    ]
    .map(u64::from);
    let stored = |name: String, gguf_name: String, shape: &[u64]| Slot {
        gguf_name,
        shape: shape.to_vec(),
        contents: Contents::Stored { name, heads: None },
    };
    let mut slots = vec![
        stored(
            "model.embed_tokens.weight".into(),
            "token_embd.weight".into(),
            &[vocabulary, hidden],
        ),
        stored(
            "model.norm.weight".into(),
            "output_norm.weight".into(),
            &[hidden],
        ),
    ];
    // Some checkpoints store the output although it is tied; upstream keeps it then.
    if !config.tied || checkpoint.tensor("lm_head.weight").is_some() {
        slots.push(stored(
            "lm_head.weight".into(),
            "output.weight".into(),
            &[vocabulary, hidden],
        ));
    }
    if let Some(factors) = config.rope.factors(config.head) {
        slots.push(Slot {
            gguf_name: "rope_freqs.weight".into(),
            shape: vec![factors.len() as u64],
            contents: Contents::Computed(factors),
        });
    }
    for layer in 0..config.layers {
        let names = |(theirs, ours): (&str, &str), part: &str| {
            (
                format!("model.layers.{layer}.{theirs}.{part}"),
                format!("blk.{layer}.{ours}.{part}"),
            )
        };
        for pair in NORMS {
            let (name, gguf_name) = names(pair, "weight");
            // At once, so that a lying number of layers does not fill the memory with slots.
            if checkpoint.tensor(&name).is_none() {
                bail!("{}: tensor {name} is missing", checkpoint.path().display());
            }
            slots.push(stored(name, gguf_name, &[hidden]));
        }
        for pair in ATTENTION.into_iter().chain(FEED_FORWARD) {
            let shape = match pair.1 {
                "attn_q" => [heads * head, hidden],
                "attn_k" | "attn_v" => [heads_kv * head, hidden],
                "attn_output" => [hidden, heads * head],
                "ffn_down" => [hidden, feed_forward],
                _ => [feed_forward, hidden],
            };
            let rotary_heads = match (config.architecture, pair.1) {
                (Architecture::Llama, "attn_q") => Some(heads),
                (Architecture::Llama, "attn_k") => Some(heads_kv),
                _ => None,
            };
            let (name, gguf_name) = names(pair, "weight");
            let weight = stored(name, gguf_name, &shape);
            let (name, gguf_name) = names(pair, "bias");
            // qwen2 has biases on q, k and v, always; llama where the checkpoint has them.
            let qkv = matches!(pair.1, "attn_q" | "attn_k" | "attn_v");
            let bias = (config.architecture == Architecture::Qwen2 && qkv
                || checkpoint.tensor(&name).is_some())
            .then(|| stored(name, gguf_name, &shape[..1]));
            for mut slot in [Some(weight), bias].into_iter().flatten() {
                if let Contents::Stored { heads, .. } = &mut slot.contents {
                    *heads = rotary_heads;
                }
                slots.push(slot);
            }
        }
    }
    refuse_unknown(&slots, checkpoint)?;
    Ok(slots)
}

/// Fails if the checkpoint holds a tensor that no slot takes: it would be lost silently.
fn refuse_unknown(slots: &[Slot], checkpoint: &Checkpoint) -> Result<()> {
    let taken: std::collections::HashSet<&str> = slots
        .iter()
        .filter_map(|slot| match &slot.contents {
            Contents::Stored { name, .. } => Some(name.as_str()),
            Contents::Computed(_) => None,
        })
        .collect();
    // Buffers that older versions of transformers stored; they follow from the config.
    let buffer = |name: &str| name.ends_with(".rotary_emb.inv_freq");
    match checkpoint
        .names()
        .find(|name| !taken.contains(name) && !buffer(name))
    {
        Some(name) => bail!(
            "{}: tensor {name} is not known here",
            checkpoint.path().display()
        ),
        None => Ok(()),
    }
}

/// The row of the checkpoint that becomes row `row` of the GGUF file, in heads of `head` rows.
///
/// Hugging Face rotates element `i` of a head with element `i + head / 2`, llama.cpp's llama rotates
/// neighbours; so the two halves of each head are interleaved.
pub fn rotary_row(row: u64, head: u64) -> u64 {
    let (start, within) = (row / head * head, row % head);
    start + within % 2 * (head / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_each_head_are_interleaved() {
        let rows: Vec<u64> = (0..12).map(|row| rotary_row(row, 6)).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
