//! Rotary position embedding: its settings in config.json, in the older spelling of transformers 4
//! (`rope_theta` beside `rope_scaling`) and the newer of 5 (`rope_parameters`), as GGUF's keys.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::json_file::JsonFile;

/// Rotary position embedding.
pub struct Rope {
    theta: f64,
    parameters: Map<String, Value>,
    scaling: Scaling,
}

enum Scaling {
    None,
    Linear { factor: f64 },
    Yarn { factor: f64, original: u32 },
    Llama3 { original: u32 },
}

impl Rope {
    /// `context` is the model's longest context, in tokens: what it was trained with where the
    /// settings do not say otherwise.
    pub fn read(file: &JsonFile, context: u32) -> Result<Rope> {
        let settings = |field| {
            let object = file.get(field).and_then(Value::as_object);
            object.filter(|object| !object.is_empty())
        };
        // The older wins where both are, in transformers too.
        let parameters = settings("rope_scaling").or_else(|| settings("rope_parameters"));
        let parameters = parameters.cloned().unwrap_or_default();
        let theta = match parameters.get("rope_theta").and_then(Value::as_f64) {
            Some(theta) => theta,
            None => file.number("rope_theta", 10000.0)?,
        };
        let mut rope = Rope {
            theta,
            parameters,
            scaling: Scaling::None,
        };
        rope.scaling = rope
            .scaling(context)
            .with_context(|| format!("{}: rope scaling", file.path().display()))?;
        Ok(rope)
    }

    fn scaling(&self, context: u32) -> Result<Scaling> {
        let kind = self
            .parameters
            .get("rope_type")
            .or_else(|| self.parameters.get("type"));
        let factor = || self.number("factor").context("factor is missing");
        let original = || match self.parameters.get("original_max_position_embeddings") {
            None | Some(Value::Null) => Ok(context),
            Some(value) => {
                let original = value.as_f64().filter(|n| (1.0..=4e9).contains(n));
                let original = original.map(|n| n as u32);
                original.with_context(|| format!("original_max_position_embeddings is {value}"))
            }
        };
        Ok(match kind.and_then(Value::as_str) {
            None | Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: factor()? },
            Some("yarn") => Scaling::Yarn {
                factor: factor()?,
                original: original()?,
            },
            Some("llama3") => Scaling::Llama3 {
                original: original()?,
            },
            Some(other) => bail!("the type {other:?} cannot be converted"),
        })
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).and_then(Value::as_f64)
    }

    pub fn write_keys(&self, set: &mut impl FnMut(&str, cloister_gguf::Value)) {
        set("rope.freq_base", (self.theta as f32).into());
        match self.scaling {
            Scaling::None | Scaling::Llama3 { .. } => {} // llama3's is a tensor: `factors`
            Scaling::Linear { factor } => {
                set("rope.scaling.type", "linear".into());
                set("rope.scaling.factor", (factor as f32).into());
            }
            Scaling::Yarn { factor, original } => {
                set("rope.scaling.type", "yarn".into());
                set("rope.scaling.factor", (factor as f32).into());
                set("rope.scaling.original_context_length", original.into());
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
    }

    /// What deepseek2 multiplies the logarithm of YaRN's factor with, by GGUF's convention a tenth
    /// of `mscale_all_dim`.
    pub fn log_multiplier(&self) -> Option<f32> {
        Some((0.1 * self.number("mscale_all_dim")?) as f32)
    }

    /// For llama3's scaling, what each of the `head / 2` frequencies is divided by, as Llama 3.1's
    /// reference code computes it: 1 for waves far shorter than the original context, `factor` for
    /// those longer than it, and a blend between.
    pub fn factors(&self, head: u32) -> Option<Vec<f32>> {
        let Scaling::Llama3 { original } = self.scaling else {
            return None;
        };
        // In F32 and by reciprocals, as the reference computes: its rounding is part of the file.
        let number = |name, default| self.number(name).unwrap_or(default) as f32;
        let factor = number("factor", 8.0);
        let low = number("low_freq_factor", 1.0);
        let high = number("high_freq_factor", 4.0);
        let context = original as f32;
        let theta = self.theta as f32;
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
