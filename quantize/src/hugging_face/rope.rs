//! Rotary position embedding: its settings in config.json, in the older spelling of transformers 4
//! (`rope_theta` beside `rope_scaling`) and the newer of 5 (`rope_parameters`), as GGUF's keys.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::config::Architecture;
use super::json_file::{JsonFile, positive};

/// Rotary position embedding.
pub struct Rope {
    theta: f64,
    parameters: Map<String, Value>,
    scaling: Scaling,
}

enum Scaling {
    None,
    Linear {
        factor: f64,
    },
    Yarn {
        factor: f64,
        original: u32,
    },
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: u32,
    },
}

/// The settings that are numbers.
const NUMBERS: [&str; 11] = [
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "extrapolation_factor",
    "attention_factor",
    "attn_factor",
    "beta_fast",
    "beta_slow",
    "mscale_all_dim",
    "low_freq_factor",
    "high_freq_factor",
];

impl Rope {
    /// `context` is the model's longest context, in tokens: what it was trained with where the
    /// settings do not say otherwise.
    pub fn read(file: &JsonFile, architecture: Architecture, context: u32) -> Result<Rope> {
        let in_file = || file.path().display().to_string();
        let parameters = parameters(file).with_context(in_file)?;
        let theta = match parameters.get("rope_theta") {
            Some(theta) => positive(theta).with_context(|| {
                let shown = file.path().display();
                format!("{shown}: rope_theta: {theta} is no number above 0 that F32 holds")
            })?,
            None => 10000.0,
        };
        let mut rope = Rope {
            theta,
            parameters,
            scaling: Scaling::None,
        };
        rope.scaling = rope
            .scaling(architecture, context)
            .with_context(|| format!("{}: rope scaling", file.path().display()))?;
        Ok(rope)
    }

    fn scaling(&self, architecture: Architecture, context: u32) -> Result<Scaling> {
        let positive = |name: &str| match self.parameters.get(name) {
            None => Ok(None),
            Some(value) => match positive(value) {
                Some(number) => Ok(Some(number)),
                None => bail!("{name}: {value} is no number above 0 that F32 holds"),
            },
        };
        let factor = || positive("factor")?.context("factor is missing");
        let original = || match self.parameters.get("original_max_position_embeddings") {
            None => Ok(context),
            Some(value) => {
                let original = value.as_f64().filter(|n| (1.0..=4e9).contains(n));
                let original = original.map(|n| n as u32);
                original.with_context(|| format!("original_max_position_embeddings is {value}"))
            }
        };
        let kind = self.parameters.get("rope_type");
        Ok(match kind.and_then(Value::as_str) {
            None | Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: factor()? },
            Some("yarn") => Scaling::Yarn {
                factor: factor()?,
                original: original()?,
            },
            // Its tensor is one that llama.cpp looks for in this architecture alone.
            Some("llama3") if architecture == Architecture::Llama => {
                let low = positive("low_freq_factor")?.unwrap_or(1.0);
                let high = positive("high_freq_factor")?.unwrap_or(4.0);
                if low >= high {
                    bail!("low_freq_factor {low} is not below high_freq_factor {high}");
                }
                Scaling::Llama3 {
                    factor: positive("factor")?.unwrap_or(8.0),
                    low,
                    high,
                    original: original()?,
                }
            }
            Some("llama3") => bail!("rope_type \"llama3\" can be converted for llama only"),
            Some(other) => bail!("rope_type {other:?} cannot be converted"),
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
        let Scaling::Llama3 {
            factor,
            low,
            high,
            original,
        } = self.scaling
        else {
            return None;
        };
        // In F32 and by reciprocals, as the reference computes: its rounding is part of the file.
        let (factor, low, high) = (factor as f32, low as f32, high as f32);
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

/// All settings, of whatever spelling, by transformers 5's names and without those that are null.
/// Fails at one that cannot be read, and at two that contradict each other.
fn parameters(file: &JsonFile) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    let mut add = |place: &str, name: &str, value: &Value| {
        let name = if name == "type" { "rope_type" } else { name };
        let readable = match name {
            "rope_type" => value.is_string(),
            "partial_rotary_factor" => value.as_f64() == Some(1.0),
            name if NUMBERS.contains(&name) => {
                value.as_f64().is_some_and(|n| (n as f32).is_finite())
            }
            // Settings for each kind of layer.
            _ => !value.is_object(),
        };
        if !readable {
            bail!("{place}: {name} is {value}, which cannot be converted");
        }
        match all.get(name) {
            Some(other) if !same(other, value) => {
                bail!("{place}: {name} is {value}, but elsewhere in the file {other}")
            }
            _ => all.insert(name.to_owned(), value.clone()),
        };
        Ok(())
    };
    for place in ["rope_scaling", "rope_parameters"] {
        match file.get(place) {
            None => {}
            Some(Value::Object(object)) => {
                for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
                    add(place, name, value)?;
                }
            }
            Some(other) => bail!("{place}: {other} is no object"),
        }
    }
    if let Some(theta) = file.get("rope_theta") {
        add("by itself", "rope_theta", theta)?;
    }
    if let (Some(one), Some(other)) = (all.get("attention_factor"), all.get("attn_factor"))
        && !same(one, other)
    {
        bail!("attention_factor is {one}, but attn_factor {other}");
    }
    Ok(all)
}

/// Whether two settings are one: 10000 is 10000.0.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some() && one.as_f64() == other.as_f64()
}
