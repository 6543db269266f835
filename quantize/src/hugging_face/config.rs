//! config.json: the model's shape and how its keys are called in GGUF.
//!
//! Field names are those of transformers' `Qwen2Config` and `LlamaConfig`, in the older spelling
//! (`rope_theta` beside `rope_scaling`) and the newer (`rope_parameters`).

use std::path::Path;

use anyhow::{Context, Result, bail};
use cloister_gguf::Metadata;
use serde_json::{Map, Value};

use super::json_file::JsonFile;

/// The architectures of which checkpoints can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
}

/// A model's shape.
pub struct Config {
    pub architecture: Architecture,
    pub layers: u32,
    pub hidden: u32,
    pub feed_forward: u32,
    pub heads: u32,
    pub heads_kv: u32,
    /// Elements of one head; not always `hidden / heads`.
    pub head: u32,
    pub vocabulary: u32,
    /// The output matrix is the token embedding.
    pub tied: bool,
    pub rope: Rope,
    pub file: JsonFile,
}

/// Rotary position embedding.
pub struct Rope {
    theta: Option<f64>,
    parameters: Map<String, Value>,
    scaling: RopeScaling,
}

enum RopeScaling {
    None,
    Linear,
    Yarn,
    Llama3,
}

impl Config {
    pub fn read(folder: &Path) -> Result<Config> {
        let file = JsonFile::read(&folder.join("config.json"))?;
        let shown = file.path().display().to_string();
        let named = file
            .get("architectures")
            .and_then(|names| names.get(0))
            .and_then(Value::as_str);
        let architecture = match named {
            Some("LlamaForCausalLM") => Architecture::Llama,
            Some("Qwen2ForCausalLM") => Architecture::Qwen2,
            Some(other) => bail!(
                "{shown}: the architecture {other:?} cannot be converted; LlamaForCausalLM and Qwen2ForCausalLM can"
            ),
            None => bail!("{shown}: architectures is missing"),
        };
        let heads = file.required_count("num_attention_heads")?;
        let hidden = file.required_count("hidden_size")?;
        let heads_kv = file.count("num_key_value_heads")?.unwrap_or(heads);
        let head = match file.count("head_dim")? {
            Some(head) => head,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => bail!("{shown}: hidden_size {hidden} is no multiple of {heads} heads"),
        };
        if !heads.is_multiple_of(heads_kv) || !head.is_multiple_of(2) {
            bail!("{shown}: {heads} heads, {heads_kv} for keys, of {head} elements cannot be");
        }
        Ok(Config {
            architecture,
            layers: file.required_count("num_hidden_layers")?,
            hidden,
            feed_forward: file.required_count("intermediate_size")?,
            heads,
            heads_kv,
            head,
            vocabulary: file.required_count("vocab_size")?,
            tied: file
                .get("tie_word_embeddings")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            rope: Rope::read(&file)?,
            file,
        })
    }

    /// GGUF's name of the architecture.
    pub fn architecture(&self) -> &'static str {
        match self.architecture {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }

    /// Writes the keys of the architecture.
    pub fn write_keys(&self, metadata: &mut Metadata) -> Result<()> {
        let architecture = self.architecture();
        let mut set = |key: &str, value: cloister_gguf::Value| {
            metadata.set(&format!("{architecture}.{key}"), value);
        };
        set("block_count", self.layers.into());
        if let Some(context) = self.file.count("max_position_embeddings")? {
            set("context_length", context.into());
        }
        set("embedding_length", self.hidden.into());
        set("feed_forward_length", self.feed_forward.into());
        set("attention.head_count", self.heads.into());
        set("attention.head_count_kv", self.heads_kv.into());
        if let Some(head) = self.file.count("head_dim")? {
            set("attention.key_length", head.into());
            set("attention.value_length", head.into());
        }
        let Some(epsilon) = self.file.get("rms_norm_eps").and_then(Value::as_f64) else {
            bail!("{}: rms_norm_eps is missing", self.file.path().display());
        };
        set("attention.layer_norm_rms_epsilon", (epsilon as f32).into());
        if self.architecture == Architecture::Llama {
            set("vocab_size", self.vocabulary.into());
            set("rope.dimension_count", self.head.into());
        }
        self.rope
            .write_keys(&mut set)
            .with_context(|| self.file.path().display().to_string())
    }
}

impl Rope {
    fn read(file: &JsonFile) -> Result<Rope> {
        let parameters = file
            .get("rope_parameters")
            .or_else(|| file.get("rope_scaling"));
        let mut parameters = parameters
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if !parameters.contains_key("original_max_position_embeddings")
            && let Some(original) = file.get("original_max_position_embeddings")
        {
            parameters.insert("original_max_position_embeddings".into(), original.clone());
        }
        let kind = parameters
            .get("rope_type")
            .or_else(|| parameters.get("type"));
        let scaling = match kind.and_then(Value::as_str) {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear,
            Some("yarn") => RopeScaling::Yarn,
            Some("llama3") => RopeScaling::Llama3,
            Some(other) => bail!(
                "{}: rope scaling of type {other:?} cannot be converted",
                file.path().display()
            ),
        };
        let theta = parameters
            .get("rope_theta")
            .or_else(|| file.get("rope_theta"));
        Ok(Rope {
            theta: theta.and_then(Value::as_f64),
            parameters,
            scaling,
        })
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).and_then(Value::as_f64)
    }

    fn required(&self, name: &str) -> Result<f64> {
        self.number(name)
            .with_context(|| format!("rope scaling: {name} is missing"))
    }

    fn write_keys(&self, set: &mut impl FnMut(&str, cloister_gguf::Value)) -> Result<()> {
        if let Some(theta) = self.theta {
            set("rope.freq_base", (theta as f32).into());
        }
        match self.scaling {
            RopeScaling::None | RopeScaling::Llama3 => {} // llama3's is a tensor: `factors`
            RopeScaling::Linear => {
                set("rope.scaling.type", "linear".into());
                set(
                    "rope.scaling.factor",
                    (self.required("factor")? as f32).into(),
                );
            }
            RopeScaling::Yarn => {
                set("rope.scaling.type", "yarn".into());
                set(
                    "rope.scaling.factor",
                    (self.required("factor")? as f32).into(),
                );
                let original = self.required("original_max_position_embeddings")?;
                set(
                    "rope.scaling.original_context_length",
                    (original as u32).into(),
                );
                for (names, key) in [
                    (&["extrapolation_factor"][..], "yarn_ext_factor"),
                    (&["attention_factor", "attn_factor"], "yarn_attn_factor"),
                    (&["beta_fast"], "yarn_beta_fast"),
                    (&["beta_slow"], "yarn_beta_slow"),
                ] {
                    if let Some(value) = names.iter().find_map(|name| self.number(name)) {
                        set(&format!("rope.scaling.{key}"), (value as f32).into());
                    }
                }
            }
        }
        Ok(())
    }

    /// For llama3's scaling, what each of the `head / 2` frequencies is divided by, as Llama 3.1's
    /// reference code computes it: 1 for waves far shorter than the original context, `factor` for
    /// those longer than it, and a blend between.
    pub fn factors(&self, head: u32) -> Option<Vec<f32>> {
        if !matches!(self.scaling, RopeScaling::Llama3) {
            return None;
        }
        // In F32 and by reciprocals, as the reference computes: its rounding is part of the file.
        let number = |name, default| self.number(name).unwrap_or(default) as f32;
        let factor = number("factor", 8.0);
        let low = number("low_freq_factor", 1.0);
        let high = number("high_freq_factor", 4.0);
        let context = number("original_max_position_embeddings", 8192.0);
        let theta = self.theta.unwrap_or(10000.0) as f32;
        let factors = (0..head).step_by(2).map(|i| {
            let frequency = theta.powf(i as f32 / head as f32).recip();
            let wave = frequency.recip() * std::f32::consts::TAU;
            if wave < context / high {
                1.0
            } else if wave > context / low {
                factor
            } else {
                let smooth = (wave.recip() * context - low) / (high - low);
                ((1.0 - smooth) / factor + smooth).recip()
            }
        });
        Some(factors.collect())
    }
}
