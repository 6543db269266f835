//! Which tensor of a checkpoint becomes which tensor of a GGUF file.
//!
//! In: the config and the checkpoint. Out: a slot for each tensor to be written, each weight checked
//! against the shape that the config asks for.

use std::collections::HashSet;

use anyhow::{Result, bail};

use super::config::{Architecture, Attention, Config};
use super::content::{Content, HeadPart, Weight};
use super::fp8::SCALES;
use super::mixture::Mixture;
use super::safetensors::Checkpoint;

/// A tensor to be written.
pub struct Slot {
    pub gguf_name: String,
    /// In PyTorch's order: the last is the length of a row.
    pub shape: Vec<u64>,
    pub content: Content,
}

/// The feed-forward's matrices by Hugging Face's names and GGUF's.
const FEED_FORWARD: [(&str, &str); 3] = [
    ("gate_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("down_proj", "ffn_down"),
];

/// All slots of a model, in the order of their writing.
pub fn slots(config: &Config, checkpoint: &Checkpoint) -> Result<Vec<Slot>> {
    let mut layout = Layout {
        config,
        checkpoint,
        slots: Vec::new(),
        taken: HashSet::new(),
    };
    let (hidden, vocabulary) = (u64::from(config.hidden), u64::from(config.vocabulary));
    let matrix = [vocabulary, hidden];
    layout.add("model.embed_tokens.weight", "token_embd.weight", &matrix)?;
    layout.add("model.norm.weight", "output_norm.weight", &[hidden])?;
    // Some checkpoints store the output although it is tied; upstream keeps it then, but not
    // deepseek2's.
    if !config.tied || checkpoint.tensor("lm_head.weight").is_some() {
        if config.tied && config.architecture == Architecture::DeepseekV3 {
            layout.taken.insert("lm_head.weight".to_owned());
        } else {
            layout.add("lm_head.weight", "output.weight", &matrix)?;
        }
    }
    if let Attention::Grouped { head, .. } = config.attention
        && let Some(factors) = config.rope.factors(head)
    {
        let shape = vec![factors.len() as u64];
        layout.push("rope_freqs.weight", shape, Content::Computed(factors));
    }
    for layer in 0..config.layers {
        layout.layer(layer)?;
    }
    layout.refuse_unknown()?;
    Ok(layout.slots)
}

struct Layout<'a> {
    config: &'a Config,
    checkpoint: &'a Checkpoint,
    slots: Vec<Slot>,
    /// Tensors of the checkpoint that have found their place.
    taken: HashSet<String>,
}

impl Layout<'_> {
    /// The tensor `name`, which must have this shape.
    fn weight(&mut self, name: &str, shape: &[u64]) -> Result<Weight> {
        let weight = Weight::open(self.checkpoint, self.config.fp8, name, shape)?;
        self.taken.insert(name.to_owned());
        if weight.is_fp8() {
            self.taken.insert(format!("{name}{SCALES}"));
        }
        Ok(weight)
    }

    fn push(&mut self, gguf_name: &str, shape: Vec<u64>, content: Content) {
        self.slots.push(Slot {
            gguf_name: gguf_name.to_owned(),
            shape,
            content,
        });
    }

    /// A tensor that is taken over as it is.
    fn add(&mut self, name: &str, gguf_name: &str, shape: &[u64]) -> Result<()> {
        let weight = self.weight(name, shape)?;
        self.push(gguf_name, shape.to_vec(), Content::AsStored(weight));
        Ok(())
    }

    fn layer(&mut self, layer: u32) -> Result<()> {
        let hidden = u64::from(self.config.hidden);
        let (theirs, ours) = (format!("model.layers.{layer}"), format!("blk.{layer}"));
        for (name, gguf_name) in [
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ] {
            let name = format!("{theirs}.{name}.weight");
            self.add(&name, &format!("{ours}.{gguf_name}.weight"), &[hidden])?;
        }
        let config = self.config;
        match &config.attention {
            Attention::Grouped { heads_kv, head } => {
                self.grouped_attention(&theirs, &ours, u64::from(*heads_kv), u64::from(*head))?;
            }
            Attention::Latent(mixture) => {
                self.latent_attention(&theirs, &ours, mixture)?;
                if layer >= mixture.dense_layers {
                    return self.experts(&theirs, &ours, mixture);
                }
            }
        }
        let mlp = format!("{theirs}.mlp");
        self.feed_forward(&mlp, &ours, "", u64::from(config.feed_forward))
    }

    fn grouped_attention(
        &mut self,
        theirs: &str,
        ours: &str,
        heads_kv: u64,
        head: u64,
    ) -> Result<()> {
        let (hidden, heads) = (u64::from(self.config.hidden), u64::from(self.config.heads));
        let architecture = self.config.architecture;
        for (name, gguf_name, shape, rotated) in [
            ("q_proj", "attn_q", [heads * head, hidden], Some(heads)),
            (
                "k_proj",
                "attn_k",
                [heads_kv * head, hidden],
                Some(heads_kv),
            ),
            ("v_proj", "attn_v", [heads_kv * head, hidden], None),
            ("o_proj", "attn_output", [hidden, heads * head], None),
        ] {
            let rotated = rotated.filter(|_| architecture == Architecture::Llama);
            let name = format!("{theirs}.self_attn.{name}");
            // qwen2 has biases on q, k and v, always; the others where the checkpoint has them.
            let bias = architecture == Architecture::Qwen2 && gguf_name != "attn_output"
                || self.checkpoint.tensor(&format!("{name}.bias")).is_some();
            for (part, shape) in [("weight", &shape[..]), ("bias", &shape[..1])] {
                if part == "bias" && !bias {
                    continue;
                }
                let weight = self.weight(&format!("{name}.{part}"), shape)?;
                let content = match rotated {
                    Some(heads) => Content::Rotary(weight, heads),
                    None => Content::AsStored(weight),
                };
                self.push(
                    &format!("{ours}.{gguf_name}.{part}"),
                    shape.to_vec(),
                    content,
                );
            }
        }
        if architecture == Architecture::Qwen3 {
            for part in ["q", "k"] {
                let name = format!("{theirs}.self_attn.{part}_norm.weight");
                self.add(&name, &format!("{ours}.attn_{part}_norm.weight"), &[head])?;
            }
        }
        Ok(())
    }

    fn latent_attention(&mut self, theirs: &str, ours: &str, mixture: &Mixture) -> Result<()> {
        let [hidden, heads, kv_rank, nope, rope, value] = [
            self.config.hidden,
            self.config.heads,
            mixture.kv_rank,
            mixture.nope,
            mixture.rope,
            mixture.value,
        ]
        .map(u64::from);
        let query = heads * (nope + rope);
        let mut rows: Vec<(&str, &str, Vec<u64>)> = vec![
            (
                "kv_a_proj_with_mqa",
                "attn_kv_a_mqa",
                vec![kv_rank + rope, hidden],
            ),
            ("kv_a_layernorm", "attn_kv_a_norm", vec![kv_rank]),
            ("o_proj", "attn_output", vec![hidden, heads * value]),
        ];
        match mixture.query_rank.map(u64::from) {
            Some(rank) => rows.extend([
                ("q_a_proj", "attn_q_a", vec![rank, hidden]),
                ("q_a_layernorm", "attn_q_a_norm", vec![rank]),
                ("q_b_proj", "attn_q_b", vec![query, rank]),
            ]),
            None => rows.push(("q_proj", "attn_q", vec![query, hidden])),
        }
        for (name, gguf_name, shape) in rows {
            let name = format!("{theirs}.self_attn.{name}.weight");
            self.add(&name, &format!("{ours}.{gguf_name}.weight"), &shape)?;
        }
        // What makes keys and values of the latent, head by head: the part for keys is multiplied
        // with the query instead, and so lies the other way.
        let (of, name) = (nope + value, format!("{theirs}.self_attn.kv_b_proj.weight"));
        let keys = self.weight(&name, &[heads * of, kv_rank])?;
        let values = self.weight(&name, &[heads * of, kv_rank])?;
        let part = |first, rows| HeadPart { of, first, rows };
        let keys = Content::Transposed(keys, part(0, nope));
        self.push(
            &format!("{ours}.attn_k_b.weight"),
            vec![heads, kv_rank, nope],
            keys,
        );
        let values = Content::Part(values, part(nope, value));
        self.push(
            &format!("{ours}.attn_v_b.weight"),
            vec![heads, value, kv_rank],
            values,
        );
        Ok(())
    }

    fn experts(&mut self, theirs: &str, ours: &str, mixture: &Mixture) -> Result<()> {
        let [hidden, experts, inner] =
            [self.config.hidden, mixture.experts, mixture.feed_forward].map(u64::from);
        let gate = format!("{theirs}.mlp.gate");
        let router = format!("{ours}.ffn_gate_inp.weight");
        self.add(&format!("{gate}.weight"), &router, &[experts, hidden])?;
        let bias = format!("{gate}.e_score_correction_bias");
        self.add(&bias, &format!("{ours}.exp_probs_b.bias"), &[experts])?;
        for (name, gguf_name) in FEED_FORWARD {
            let shape = match gguf_name {
                "ffn_down" => [hidden, inner],
                _ => [inner, hidden],
            };
            let mut weights: Vec<Weight> = Vec::new();
            for expert in 0..experts {
                let name = format!("{theirs}.mlp.experts.{expert}.{name}.weight");
                let weight = self.weight(&name, &shape)?;
                if weights
                    .first()
                    .is_some_and(|w| w.tensor_type() != weight.tensor_type())
                {
                    let file = self.checkpoint.file_of_name(&name).display();
                    bail!("{file}: tensor {name} is of another type than expert 0's");
                }
                weights.push(weight);
            }
            let content = Content::Stacked(weights, shape[0]);
            let shape = vec![experts, shape[0], shape[1]];
            self.push(&format!("{ours}.{gguf_name}_exps.weight"), shape, content);
        }
        match mixture.shared {
            0 => Ok(()),
            shared => {
                let shared = u64::from(shared) * inner;
                self.feed_forward(
                    &format!("{theirs}.mlp.shared_experts"),
                    ours,
                    "_shexp",
                    shared,
                )
            }
        }
    }

    fn feed_forward(&mut self, theirs: &str, ours: &str, suffix: &str, inner: u64) -> Result<()> {
        let hidden = u64::from(self.config.hidden);
        for (name, gguf_name) in FEED_FORWARD {
            let shape = match gguf_name {
                "ffn_down" => [hidden, inner],
                _ => [inner, hidden],
            };
            let name = format!("{theirs}.{name}");
            let gguf_name = format!("{ours}.{gguf_name}{suffix}");
            self.add(
                &format!("{name}.weight"),
                &format!("{gguf_name}.weight"),
                &shape,
            )?;
            let bias = format!("{name}.bias");
            if self.checkpoint.tensor(&bias).is_some() {
                self.add(&bias, &format!("{gguf_name}.bias"), &shape[..1])?;
            }
        }
        Ok(())
    }

    /// Fails if the checkpoint holds a tensor that no slot takes: it would be lost silently.
    fn refuse_unknown(&self) -> Result<()> {
        let extra = match &self.config.attention {
            Attention::Latent(mixture) => mixture.extra_layers,
            Attention::Grouped { .. } => 0,
        };
        let layers = self.config.layers;
        // What predicts further tokens is no part of the GGUF file.
        let predicts = |name: &str| {
            let number = name
                .strip_prefix("model.layers.")
                .and_then(|rest| rest.split('.').next()?.parse().ok());
            number.is_some_and(|n: u32| n >= layers && n - layers < extra)
        };
        // Buffers that older versions of transformers stored; they follow from the config.
        let buffer = |name: &str| name.ends_with(".rotary_emb.inv_freq");
        let unknown = |name: &&str| !self.taken.contains(*name) && !buffer(name) && !predicts(name);
        match self.checkpoint.names().find(unknown) {
            Some(name) => bail!(
                "{}: tensor {name} is not known here",
                self.checkpoint.file_of_name(name).display()
            ),
            None => Ok(()),
        }
    }
}
