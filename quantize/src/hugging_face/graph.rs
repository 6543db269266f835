//! What config.json says of the computation itself, where llama.cpp's graph of the architecture knows
//! one way only and GGUF has no key for another. A model of another way would load and talk nonsense.

use anyhow::{Result, bail};
use serde_json::Value;

use super::config::Architecture;
use super::json_file::JsonFile;

/// Fails at a field that contradicts llama.cpp's graph. `layers` and `context` are the model's.
pub fn check(file: &JsonFile, architecture: Architecture, layers: u32, context: u32) -> Result<()> {
    only(file, "hidden_act", |value| value == "silu", "\"silu\"")?;
    let is_one = |value: &Value| value.as_f64() == Some(1.0);
    only(file, "partial_rotary_factor", is_one, "1")?;
    for field in ["attn_logit_softcapping", "final_logit_softcapping"] {
        only(file, field, |_| false, "none")?;
    }
    let is_full = |value: &Value| {
        let types = value.as_array();
        types.is_some_and(|types| types.iter().all(|kind| kind == "full_attention"))
    };
    only(file, "layer_types", is_full, "full_attention in each layer")?;
    match architecture {
        Architecture::Llama => Ok(()),
        Architecture::Qwen2 | Architecture::Qwen3 => check_window(file, layers, context),
        Architecture::DeepseekV3 => {
            only(file, "moe_layer_freq", is_one, "1")?;
            // V2's ways to choose experts have no bias and other scores of groups.
            only(
                file,
                "topk_method",
                |value| value == "noaux_tc",
                "\"noaux_tc\"",
            )
        }
    }
}

/// Sliding windows. Published configs have sizes of one that they do not use.
fn check_window(file: &JsonFile, layers: u32, context: u32) -> Result<()> {
    let used = file.flag("use_sliding_window", false)?;
    // Where layers are named one by one, that decides, and all of them see everything.
    if !used || file.is_null("sliding_window") || file.get("layer_types").is_some() {
        return Ok(());
    }
    let window = file.whole("sliding_window", 4096)?;
    let first = file.whole("max_window_layers", 28)?;
    if window < context && first < layers {
        bail!(
            "{}: use_sliding_window is true, with sliding_window {window} below the context of \
             {context}: sliding attention cannot be converted",
            file.path().display()
        );
    }
    Ok(())
}

/// Fails if `field` is there with a value that is not `allowed`.
fn only(
    file: &JsonFile,
    field: &str,
    allowed: impl Fn(&Value) -> bool,
    wanted: &str,
) -> Result<()> {
    match file.get(field) {
        Some(value) if !allowed(value) => bail!(
            "{}: {field} is {value}, which cannot be converted: llama.cpp computes with {wanted}",
            file.path().display()
        ),
        _ => Ok(()),
    }
}
