//! config.json: the model's shape and how its keys are called in GGUF.
//!
//! Field names and defaults are those of transformers' `LlamaConfig`, `Qwen2Config`, `Qwen3Config`
//! and `DeepseekV3Config`: a field that is not there has the class's value, as it has for upstream.

use std::path::Path;

use anyhow::{Result, bail};
use cloister_gguf::Metadata;
use serde_json::Value;

use super::fp8::Fp8;
use super::graph;
use super::json_file::JsonFile;
use super::mixture::Mixture;
use super::rope::Rope;

/// The architectures of which checkpoints can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    /// GGUF's deepseek2, which DeepSeek-V3 and R1 share with V2.
    DeepseekV3,
}

/// What each is called, and the values of its class where config.json has none.
struct Class {
    architecture: Architecture,
    /// In `architectures` and in `model_type`.
    names: (&'static str, &'static str),
    gguf: &'static str,
    vocabulary: u32,
    hidden: u32,
    feed_forward: u32,
    layers: u32,
    heads: u32,
    /// `None`: as many as `heads`.
    heads_kv: Option<u32>,
    /// `None`: what is left of `hidden` for each head.
    head: Option<u32>,
    context: u32,
}

const CLASSES: [Class; 4] = [
    Class {
        architecture: Architecture::Llama,
        names: ("LlamaForCausalLM", "llama"),
        gguf: "llama",
        vocabulary: 32000,
        hidden: 4096,
        feed_forward: 11008,
        layers: 32,
        heads: 32,
        heads_kv: None,
        head: None,
        context: 2048,
    },
    Class {
        architecture: Architecture::Qwen2,
        names: ("Qwen2ForCausalLM", "qwen2"),
        gguf: "qwen2",
        vocabulary: 151_936,
        hidden: 4096,
        feed_forward: 22016,
        layers: 32,
        heads: 32,
        heads_kv: Some(32),
        head: None,
        context: 32768,
    },
    Class {
        architecture: Architecture::Qwen3,
        names: ("Qwen3ForCausalLM", "qwen3"),
        gguf: "qwen3",
        vocabulary: 151_936,
        hidden: 4096,
        feed_forward: 22016,
        layers: 32,
        heads: 32,
        heads_kv: Some(32),
        head: Some(128),
        context: 32768,
    },
    Class {
        architecture: Architecture::DeepseekV3,
        names: ("DeepseekV3ForCausalLM", "deepseek_v3"),
        gguf: "deepseek2",
        vocabulary: 129_280,
        hidden: 7168,
        feed_forward: 18432,
        layers: 61,
        heads: 128,
        heads_kv: Some(128),
        head: None,
        context: 4096,
    },
];

/// A model's shape.
pub struct Config {
    pub architecture: Architecture,
    pub layers: u32,
    pub hidden: u32,
    /// Of the dense layers.
    pub feed_forward: u32,
    pub heads: u32,
    pub vocabulary: u32,
    /// The output matrix is the token embedding.
    pub tied: bool,
    pub attention: Attention,
    pub rope: Rope,
    /// How FP8 weights are stored, if some may be.
    pub fp8: Option<Fp8>,
    pub file: JsonFile,
    gguf: &'static str,
    context: u32,
}

/// How the heads get their keys and values.
pub enum Attention {
    /// Several query heads share a key and a value head.
    Grouped {
        heads_kv: u32,
        /// Elements of one head; not always `hidden / heads`.
        head: u32,
    },
    /// Multi-head latent attention, and the experts that come with it.
    Latent(Box<Mixture>),
}

impl Config {
    pub fn read(folder: &Path) -> Result<Config> {
        let file = JsonFile::read(&folder.join("config.json"))?;
        let class = class(&file)?;
        let shown = file.path().display();
        let heads = file.count("num_attention_heads")?.unwrap_or(class.heads);
        let hidden = file.count("hidden_size")?.unwrap_or(class.hidden);
        let attention = match class.architecture {
            Architecture::DeepseekV3 => Attention::Latent(Box::new(Mixture::read(&file)?)),
            _ => {
                let heads_kv = match file.count("num_key_value_heads")? {
                    Some(heads_kv) => heads_kv,
                    None if file.is_null("num_key_value_heads") => heads,
                    None => class.heads_kv.unwrap_or(heads),
                };
                let head = match file.count("head_dim")?.or(class.head) {
                    Some(head) => head,
                    None if hidden.is_multiple_of(heads) => hidden / heads,
                    None => bail!("{shown}: hidden_size {hidden} is no multiple of {heads} heads"),
                };
                if !heads.is_multiple_of(heads_kv) || !head.is_multiple_of(2) {
                    bail!(
                        "{shown}: {heads} heads, {heads_kv} for keys, of {head} elements cannot be"
                    );
                }
                Attention::Grouped { heads_kv, head }
            }
        };
        let context = file
            .count("max_position_embeddings")?
            .unwrap_or(class.context);
        let layers = file.count("num_hidden_layers")?.unwrap_or(class.layers);
        graph::check(&file, class.architecture, layers, context)?;
        Ok(Config {
            architecture: class.architecture,
            layers,
            hidden,
            feed_forward: file
                .count("intermediate_size")?
                .unwrap_or(class.feed_forward),
            heads,
            vocabulary: file.count("vocab_size")?.unwrap_or(class.vocabulary),
            tied: file.flag("tie_word_embeddings", false)?,
            attention,
            rope: Rope::read(&file, class.architecture, context)?,
            fp8: Fp8::read(&file)?,
            gguf: class.gguf,
            context,
            file,
        })
    }

    /// GGUF's name of the architecture.
    pub fn architecture(&self) -> &'static str {
        self.gguf
    }

    /// Writes the keys of the architecture.
    pub fn write_keys(&self, metadata: &mut Metadata) -> Result<()> {
        let architecture = self.architecture();
        let mut set = |key: &str, value: cloister_gguf::Value| {
            metadata.set(&format!("{architecture}.{key}"), value);
        };
        set("block_count", self.layers.into());
        set("context_length", self.context.into());
        set("embedding_length", self.hidden.into());
        set("feed_forward_length", self.feed_forward.into());
        set("attention.head_count", self.heads.into());
        let epsilon = self.file.positive("rms_norm_eps", 1e-6)?;
        set("attention.layer_norm_rms_epsilon", (epsilon as f32).into());
        self.rope.write_keys(&mut set);
        match &self.attention {
            Attention::Grouped { heads_kv, head } => {
                set("attention.head_count_kv", (*heads_kv).into());
                // Qwen2Config has no head_dim of its own; upstream writes it where the file does.
                if self.architecture != Architecture::Qwen2 || self.file.get("head_dim").is_some() {
                    set("attention.key_length", (*head).into());
                    set("attention.value_length", (*head).into());
                }
                if self.architecture == Architecture::Llama {
                    set("vocab_size", self.vocabulary.into());
                    set("rope.dimension_count", (*head).into());
                }
            }
            Attention::Latent(mixture) => {
                set("vocab_size", self.vocabulary.into());
                mixture.write_keys(&mut set);
                if let Some(multiplier) = self.rope.log_multiplier() {
                    set("rope.scaling.yarn_log_multiplier", multiplier.into());
                }
            }
        }
        Ok(())
    }
}

/// The class that config.json names.
fn class(file: &JsonFile) -> Result<&'static Class> {
    let shown = file.path().display();
    let named = file
        .get("architectures")
        .and_then(|names| names.get(0))
        .and_then(Value::as_str);
    let Some(named) = named else {
        bail!("{shown}: architectures is missing");
    };
    let Some(class) = CLASSES.iter().find(|class| class.names.0 == named) else {
        let known = CLASSES.map(|class| class.names.0).join(", ");
        bail!(
            "{shown}: the architecture {named:?} cannot be converted; those that can are: {known}"
        );
    };
    match file.get("model_type") {
        Some(other) if other != class.names.1 => bail!(
            "{shown}: model_type is {other}, but that of {named} is {:?}",
            class.names.1
        ),
        _ => Ok(class),
    }
}
