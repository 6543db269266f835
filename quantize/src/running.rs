//! The context that a model is to run with, and what memory that takes, in words.
//!
//! In: `--ctx` and `--kv-type`, a header. Out: `cloister_gguf::MemoryNeed`, and a line of it.

use clap::{Args, ValueEnum};
use cloister_gguf::{
    ContextShape, KvCacheType, MemoryError, MemoryNeed, Metadata, TensorInfo, memory_need,
};
use serde_json::{Value, json};

/// Most tokens that `cloister serve` computes together.
const BATCH: u64 = 512;

/// How a model is to run: with one slot.
#[derive(Debug, Clone, Copy, Args)]
pub struct Running {
    /// Tokens of context that the model is to run with; decides what memory it takes.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(32..=1 << 24))]
    pub ctx: u32,
    /// Type of the KV cache that it is to run with.
    #[arg(long, value_enum, default_value = "f16")]
    pub kv_type: KvTypeName,
}

/// By `cloister serve`'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvTypeName {
    /// 16-bit floats.
    #[value(name = "f16")]
    F16,
    /// 8 bits and a half.
    #[value(name = "q8_0")]
    Q8_0,
}

impl Running {
    /// What the model of this header takes.
    pub fn need(
        &self,
        metadata: &Metadata,
        tensors: &[TensorInfo],
    ) -> Result<MemoryNeed, MemoryError> {
        let context = ContextShape {
            n_ctx: self.ctx.into(),
            n_slots: 1,
            n_ubatch: BATCH,
            // `serve` asks for the logits of one token of each slot.
            n_outputs: 1,
            kv_type: match self.kv_type {
                KvTypeName::F16 => KvCacheType::F16,
                KvTypeName::Q8_0 => KvCacheType::Q8_0,
            },
        };
        memory_need(metadata, tensors, context)
    }

    /// The need in a line, or why it is not known.
    pub fn line(&self, metadata: &Metadata, tensors: &[TensorInfo]) -> String {
        let need = match self.need(metadata, tensors) {
            Ok(need) => need,
            Err(error) => return format!("not known: {error}"),
        };
        format!(
            "{} MiB with {} tokens of context in {} (weights {}, KV cache {}, compute {}, rest {})",
            mib(need.total()),
            self.ctx,
            self.kv_name(),
            mib(need.weights),
            mib(need.kv_cache),
            mib(need.compute),
            mib(need.margin)
        )
    }

    /// The need in bytes, or null where it is not known.
    pub fn json(&self, metadata: &Metadata, tensors: &[TensorInfo]) -> Value {
        let Ok(need) = self.need(metadata, tensors) else {
            return Value::Null;
        };
        json!({
            "ctx": self.ctx,
            "kv_type": self.kv_name(),
            "weights": need.weights,
            "kv_cache": need.kv_cache,
            "compute": need.compute,
            "margin": need.margin,
            "total": need.total(),
        })
    }

    fn kv_name(&self) -> &'static str {
        match self.kv_type {
            KvTypeName::F16 => "f16",
            KvTypeName::Q8_0 => "q8_0",
        }
    }
}

/// Bytes in MiB, rounded up.
pub fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
