//! DeepSeek-V3's layers in config.json: multi-head latent attention and a mixture of experts, and
//! how GGUF's deepseek2 calls their sizes.
//!
//! The latent of all heads is kept in the KV cache instead of keys and values, so in GGUF attention
//! has a single key of `kv_rank + rope` elements whose first `kv_rank` are the value too.

use anyhow::{Result, bail};
use serde_json::Value;

use super::json_file::JsonFile;

/// The sizes of latent attention and experts, in elements where nothing else is said.
pub struct Mixture {
    /// Of the latent query; `None` if queries are not compressed.
    pub query_rank: Option<u32>,
    /// Of the latent that keys and values are made of.
    pub kv_rank: u32,
    /// The part of a head's key that knows no position.
    pub nope: u32,
    /// The part that is rotated by it; all heads share its key.
    pub rope: u32,
    /// A head's value.
    pub value: u32,
    /// Layers at the start that have no experts.
    pub dense_layers: u32,
    /// Experts of which the router chooses.
    pub experts: u32,
    /// Experts that see every token, stored as one of so many times the size; 0 if there are none.
    pub shared: u32,
    /// The inner size of one expert.
    pub feed_forward: u32,
    /// Layers behind the last that predict further tokens.
    pub extra_layers: u32,
    used: u32,
    groups: Option<u32>,
    groups_used: Option<u32>,
    gating: Gating,
    /// What the chosen experts' weights are multiplied with.
    scale: f32,
    /// The chosen experts' weights are made to sum up to 1.
    normalized: bool,
}

/// How the router's outputs become weights: llama.cpp's `llama_expert_gating_func_type`.
#[derive(Clone, Copy)]
enum Gating {
    Softmax = 1,
    Sigmoid = 2,
}

impl Mixture {
    pub fn read(file: &JsonFile) -> Result<Mixture> {
        let shown = file.path().display();
        let count =
            |field, default| Ok::<u32, anyhow::Error>(file.count(field)?.unwrap_or(default));
        // A field that may be null has no value then, and the class's where it is missing.
        let optional = |field, default| match file.count(field)? {
            None if file.is_null(field) => Ok(None),
            other => Ok::<_, anyhow::Error>(other.or(Some(default))),
        };
        // The rows of q and kv_a are stored in the order of interleaved rotation, which is
        // llama.cpp's for deepseek2; nothing else can be told to it.
        if !file.flag("rope_interleave", true)? {
            bail!("{shown}: rope_interleave is false, which cannot be converted");
        }
        let gating = match file.get("scoring_func") {
            // The class has no other. Upstream writes no key then, which llama.cpp takes for softmax.
            None => Gating::Sigmoid,
            Some(Value::String(name)) if name == "sigmoid" => Gating::Sigmoid,
            Some(Value::String(name)) if name == "softmax" => Gating::Softmax,
            Some(other) => bail!("{shown}: scoring_func {other} cannot be converted"),
        };
        let mixture = Mixture {
            query_rank: optional("q_lora_rank", 1536)?,
            kv_rank: count("kv_lora_rank", 512)?,
            nope: count("qk_nope_head_dim", 128)?,
            rope: count("qk_rope_head_dim", 64)?,
            value: count("v_head_dim", 128)?,
            dense_layers: file.whole("first_k_dense_replace", 3)?,
            experts: count("n_routed_experts", 256)?,
            shared: file.whole("n_shared_experts", 1)?,
            feed_forward: count("moe_intermediate_size", 2048)?,
            extra_layers: file.whole("num_nextn_predict_layers", 1)?,
            used: count("num_experts_per_tok", 8)?,
            groups: optional("n_group", 8)?,
            groups_used: optional("topk_group", 4)?,
            gating,
            scale: file.positive("routed_scaling_factor", 2.5)? as f32,
            normalized: file.flag("norm_topk_prob", true)?,
        };
        if let Err(wrong) = mixture.check_choice() {
            bail!("{shown}: {wrong}");
        }
        Ok(mixture)
    }

    /// Whether experts can be chosen by these numbers: llama.cpp aborts at the others, when the file is
    /// loaded.
    fn check_choice(&self) -> Result<(), String> {
        let (experts, groups) = (self.experts, self.groups.unwrap_or(0));
        if self.used > experts {
            let used = self.used;
            return Err(format!(
                "num_experts_per_tok is {used} of {experts} experts"
            ));
        }
        if groups >= experts || groups > 1 && !experts.is_multiple_of(groups) {
            return Err(format!(
                "n_group: {experts} experts cannot be in {groups} groups"
            ));
        }
        if groups > 1 && !(1..groups).contains(&self.groups_used.unwrap_or(0)) {
            let used = self.groups_used.unwrap_or(0);
            return Err(format!(
                "topk_group: {used} of {groups} groups is no choice"
            ));
        }
        Ok(())
    }

    pub fn write_keys(&self, set: &mut impl FnMut(&str, cloister_gguf::Value)) {
        if let Some(rank) = self.query_rank {
            set("attention.q_lora_rank", rank.into());
        }
        set("attention.kv_lora_rank", self.kv_rank.into());
        set("attention.head_count_kv", 1u32.into());
        set("attention.key_length", (self.kv_rank + self.rope).into());
        set("attention.value_length", self.kv_rank.into());
        set("attention.key_length_mla", (self.nope + self.rope).into());
        set("attention.value_length_mla", self.value.into());
        set("rope.dimension_count", self.rope.into());
        set("leading_dense_block_count", self.dense_layers.into());
        set("expert_feed_forward_length", self.feed_forward.into());
        set("expert_count", self.experts.into());
        set("expert_used_count", self.used.into());
        set("expert_shared_count", self.shared.into());
        for (key, groups) in [
            ("expert_group_count", self.groups),
            ("expert_group_used_count", self.groups_used),
        ] {
            if let Some(groups) = groups {
                set(key, groups.into());
            }
        }
        set("expert_gating_func", (self.gating as u32).into());
        set("expert_weights_scale", self.scale.into());
        if self.normalized {
            set("expert_weights_norm", true.into());
        }
    }
}
