//! How much memory running a model takes, from its header alone.
//!
//! In: metadata, tensor infos and the shape of the context. Out: bytes for weights, KV cache, compute
//! and output buffers, as llama.cpp allocates them on the CPU with flash attention (the default).
//! It must never panic on what a header says and knows nothing of the machine.

use crate::{Metadata, TensorInfo, TensorType};

/// What the process takes beside llama.cpp's buffers, in bytes: vocabulary, programs, threads' scratch.
const MARGIN: u64 = 128 << 20;

/// The largest value of a key that goes into a product: no model comes near it.
const MAX_NUMBER: u64 = 1 << 24;

/// Element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)] // ggml's spelling
pub enum KvCacheType {
    /// 16-bit floats.
    F16,
    /// 8-bit blocks of 32 with a scale.
    Q8_0,
}

/// The context that a model is to run with.
#[derive(Debug, Clone, Copy)]
pub struct ContextShape {
    /// Tokens that each slot holds.
    pub n_ctx: u64,
    /// Slots, each with its own part of the KV cache.
    pub n_slots: u64,
    /// Most tokens computed together.
    pub n_ubatch: u64,
    /// Most tokens of these whose logits are asked for.
    pub n_outputs: u64,
    /// Element type of the KV cache.
    pub kv_type: KvCacheType,
}

/// Bytes by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// All tensors. Mapped from the file, they are page cache, but each token reads all of them (of a
    /// mixture of experts, soon all): without room for them every token waits for the disk.
    pub weights: u64,
    /// Keys and values of all slots; exact.
    pub kv_cache: u64,
    /// Activations of one batch and logits; an upper bound, within 12 % and 2 MiB of what llama.cpp
    /// allocates for the architectures known here.
    pub compute: u64,
    /// Vocabulary, programs and scratch of the threads; a flat sum.
    pub margin: u64,
}

impl MemoryNeed {
    /// The sum.
    pub fn total(&self) -> u64 {
        [self.weights, self.kv_cache, self.compute, self.margin]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Why a header does not tell what memory a model takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Other architectures lay out their caches differently.
    #[error("memory is known for llama, qwen2, qwen3 and deepseek2, not for {0:?}")]
    Architecture(String),
    /// A key is missing or cannot be.
    #[error("key {0}: a whole number from 1 to {MAX_NUMBER} is needed")]
    Key(String),
    /// The context cannot be.
    #[error("a context of {0} tokens cannot be: at most {MAX_NUMBER} can")]
    Context(u64),
}

/// What running the model of this header takes with a context of this shape.
///
/// KV cache: `llama-kv-cache.cpp`: per layer, keys and values of all KV heads; for deepseek2 with
/// `key_length_mla` only keys, of `key_length` = `kv_lora_rank` + rope elements. Slots are padded to
/// multiples of 256 tokens as `llama-context.cpp` does.
///
/// Compute: fitted to the pinned llama.cpp's reserved graphs. At its widest, a graph of `n` tokens holds
/// the F16 mask (`n * n_ctx`) and F32 activations: 5 to 6 of the embedding's width, and the largest of
/// three feed-forward widths, the logits, and what attention holds.
pub fn memory_need(
    metadata: &Metadata,
    tensors: &[TensorInfo],
    context: ContextShape,
) -> Result<MemoryNeed, MemoryError> {
    for number in [context.n_ctx, context.n_slots, context.n_ubatch] {
        if number == 0 || number > MAX_NUMBER {
            return Err(MemoryError::Context(context.n_ctx));
        }
    }
    let architecture = metadata.str("general.architecture").unwrap_or_default();
    if !["llama", "qwen2", "qwen3", "deepseek2"].contains(&architecture) {
        return Err(MemoryError::Architecture(
            architecture.chars().take(60).collect(),
        ));
    }
    let optional = |key: &str| {
        let key = format!("{architecture}.{key}");
        match metadata.get(&key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n @ 1..=MAX_NUMBER) => Ok(Some(u128::from(n))),
                _ => Err(MemoryError::Key(key)),
            },
        }
    };
    let required =
        |key: &str| optional(key)?.ok_or_else(|| MemoryError::Key(format!("{architecture}.{key}")));
    let layers = required("block_count")?;
    let hidden = required("embedding_length")?;
    let feed_forward = required("feed_forward_length")?;
    let heads = required("attention.head_count")?;
    let heads_kv = optional("attention.head_count_kv")?.unwrap_or(heads);
    let key = optional("attention.key_length")?.unwrap_or(hidden / heads);
    let value = optional("attention.value_length")?.unwrap_or(hidden / heads);
    let mla = optional("attention.key_length_mla")?;
    let vocabulary = tensors
        .iter()
        .find(|t| t.name == "token_embd.weight")
        .map_or(0, |t| u128::from(t.rows()).min(MAX_NUMBER.into()));

    let [n_ctx, n_slots, n_ubatch] =
        [context.n_ctx, context.n_slots, context.n_ubatch].map(u128::from);
    let cells = ((n_ctx * n_slots).next_multiple_of(256) / n_slots).next_multiple_of(256);
    let elements = heads_kv * if mla.is_some() { key } else { key + value };
    let cache_row = match context.kv_type {
        KvCacheType::F16 => elements * 2,
        KvCacheType::Q8_0 => {
            let q8_0 = TensorType::Q8_0;
            elements * u128::from(q8_0.block_bytes()) / u128::from(q8_0.block_elements())
        }
    };

    let attention = match mla {
        // Queries, then absorbed into the compressed space, then both parts joined, and rope's part.
        Some(mla) => heads * (mla + key + value + key.saturating_sub(value)),
        None => heads * (key + value) + 2 * heads_kv * (key + value),
    };
    let used = optional("expert_used_count")?.unwrap_or(0);
    let expert = optional("expert_feed_forward_length")?.unwrap_or(feed_forward);
    let experts = used * (3 * expert + hidden);
    let outputs = n_ubatch.min(u128::from(context.n_outputs));
    let widest = [3 * feed_forward, attention, experts]
        .into_iter()
        .fold(0, u128::max);
    let activations = (n_ubatch * widest).max(outputs * vocabulary) + n_ubatch * (6 * hidden + 16);
    let mask = n_ubatch * cells * 2;
    // The logits that the caller reads: one row for each slot.
    let output = vocabulary * n_slots * 4;
    let bytes = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(MemoryNeed {
        weights: tensors
            .iter()
            .map(TensorInfo::bytes)
            .fold(0, u64::saturating_add),
        kv_cache: bytes(layers * cells * n_slots * cache_row),
        compute: bytes(activations * 4 + mask + output),
        margin: MARGIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: impl FnOnce(&mut Metadata)) -> Result<MemoryNeed, MemoryError> {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", "qwen2");
        for key in ["block_count", "embedding_length", "feed_forward_length"] {
            metadata.set(&format!("qwen2.{key}"), 64u32);
        }
        metadata.set("qwen2.attention.head_count", 2u32);
        set(&mut metadata);
        let context = ContextShape {
            n_ctx: 1024,
            n_slots: 2,
            n_ubatch: 512,
            n_outputs: 512,
            kv_type: KvCacheType::F16,
        };
        memory_need(&metadata, &[], context)
    }

    #[test]
    fn the_cache_holds_keys_and_values_of_every_slot() {
        assert_eq!(of(|_| {}).unwrap().kv_cache, 64 * 2 * 1024 * 128 * 2);
    }

    #[test]
    fn a_header_that_lies_is_refused_rather_than_computed_with() {
        let huge = of(|m| m.set("qwen2.block_count", u64::MAX));
        assert_eq!(huge, Err(MemoryError::Key("qwen2.block_count".into())));
        let none = of(|m| m.remove("qwen2.embedding_length"));
        assert_eq!(none, Err(MemoryError::Key("qwen2.embedding_length".into())));
        let zero = of(|m| m.set("qwen2.attention.head_count", 0u32));
        assert!(zero.is_err());
        let other = of(|m| m.set("general.architecture", "mamba"));
        assert_eq!(other, Err(MemoryError::Architecture("mamba".into())));
    }

    #[test]
    fn the_largest_numbers_allowed_do_not_overflow() {
        let need = of(|m| {
            for key in [
                "block_count",
                "embedding_length",
                "feed_forward_length",
                "attention.head_count",
                "attention.key_length",
                "attention.value_length",
                "expert_used_count",
            ] {
                m.set(&format!("qwen2.{key}"), 1u32 << 24);
            }
        });
        assert!(need.unwrap().total() > 1 << 60);
    }
}
