//! Our own mixes for models with multi-head latent attention and experts (deepseek2), for file types
//! of less than four bits per weight.
//!
//! Of R1's 671 billion weights 654 are in experts, of which a token meets 8 in 256; every token meets
//! the others. So what every token meets (attention, shared experts, the leading dense layers, output)
//! stays at 4 to 6 bits whatever the file type: at the low end that is a twentieth of the file. The
//! experts' `gate` and `up` matrices get the type that the file type is named for, and what is spent
//! beyond goes to their `down` matrices, whose errors go straight into the residual stream.
//!
//! It must never give a tensor that every token meets less than four bits.

use cloister_gguf::{TensorInfo, TensorType};

use super::{ModelShape, Rules, is_sensitive, layer_of};
use crate::file_type::FileType;

/// The types of one file type's mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    layers: u64,
    /// `ffn_gate_exps` and `ffn_up_exps`.
    gate_and_up: TensorType,
    /// `ffn_down_exps` in most layers.
    down: TensorType,
    /// `ffn_down_exps` in the sensitive layers.
    sensitive_down: TensorType,
    /// So many of the other layers get `sensitive_down` too, from the first on.
    raised: u64,
    /// The large matrices of what every token meets.
    every_token: TensorType,
}

impl Mix {
    /// The mix for a file type, if we have one of our own for it and this model.
    pub fn of(file_type: FileType, model: &ModelShape) -> Option<Mix> {
        use TensorType::*;
        if model.architecture != "deepseek2" || model.experts == 0 {
            return None;
        }
        let (gate_and_up, down, sensitive_down) = match file_type {
            FileType::IQ1_S => (IQ1_S, IQ1_S, IQ2_XXS),
            FileType::IQ1_M => (IQ1_M, IQ1_M, IQ2_XS),
            FileType::TQ1_0 => (TQ1_0, TQ1_0, TQ1_0),
            FileType::TQ2_0 => (TQ2_0, TQ2_0, TQ2_0),
            FileType::IQ2_XXS => (IQ2_XXS, IQ2_XXS, IQ2_S),
            FileType::IQ2_XS => (IQ2_XS, IQ2_XS, IQ3_XXS),
            FileType::IQ2_S => (IQ2_XS, IQ2_S, IQ3_XXS),
            FileType::IQ2_M => (IQ2_S, IQ3_XXS, IQ3_S),
            FileType::Q2_K_S => (Q2_K, Q2_K, Q3_K),
            FileType::Q2_K => (Q2_K, Q3_K, Q3_K),
            FileType::IQ3_XXS => (IQ3_XXS, IQ3_XXS, IQ3_S),
            FileType::IQ3_XS => (IQ3_XXS, IQ3_S, IQ3_S),
            FileType::IQ3_S => (IQ3_S, IQ3_S, IQ4_XS),
            FileType::IQ3_M => (IQ3_S, IQ4_XS, IQ4_XS),
            FileType::Q3_K_S => (Q3_K, Q3_K, Q4_K),
            FileType::Q3_K_M => (Q3_K, Q4_K, Q4_K),
            FileType::Q3_K_L => (Q3_K, Q5_K, Q5_K),
            _ => return None,
        };
        let three_bits = bits_per_weight(gate_and_up) >= 3.0;
        Some(Mix {
            layers: model.layers,
            gate_and_up,
            down,
            sensitive_down,
            raised: 0,
            every_token: if three_bits { Q5_K } else { Q4_K },
        })
    }
}

impl Mix {
    /// Layers whose `ffn_down_exps` can be raised to what the sensitive ones have.
    pub fn raisable(&self) -> u64 {
        match self.down == self.sensitive_down {
            true => 0,
            false => self.others_before(self.layers),
        }
    }

    /// The mix with so many of them raised.
    pub fn raised(self, raised: u64) -> Mix {
        Mix { raised, ..self }
    }

    /// Layers before `layer` that are not sensitive.
    fn others_before(&self, layer: u64) -> u64 {
        let others = (0..layer).filter(|&l| !is_sensitive(l, self.layers));
        others.count() as u64
    }
}

impl Rules for Mix {
    fn wanted(&mut self, tensor: &TensorInfo) -> TensorType {
        use TensorType::*;
        let name = &tensor.name;
        let kind = name
            .strip_suffix(".weight")
            .and_then(|rest| rest.rsplit('.').next());
        match kind.unwrap_or_default() {
            "ffn_gate_exps" | "ffn_up_exps" | "ffn_gate_up_exps" => self.gate_and_up,
            "ffn_down_exps" => {
                let layer = layer_of(name).try_into().unwrap_or(0);
                match is_sensitive(layer, self.layers) || self.others_before(layer) < self.raised {
                    true => self.sensitive_down,
                    false => self.down,
                }
            }
            "output" => Q6_K,
            // It is looked up, not multiplied with.
            "token_embd" => Q4_K,
            // The low-rank heart of MLA: all of it is less than one weight in 500.
            "attn_kv_a_mqa" | "attn_k_b" | "attn_v_b" | "attn_kv_b" => six_bits(tensor),
            "ffn_down" | "ffn_down_shexp" => six_bits(tensor),
            _ => self.every_token,
        }
    }
}

/// The type of six bits for rows of this length: Q6_K would fall back to eight where they fill no
/// super-blocks, and R1's `attn_k_b` has rows of 128.
fn six_bits(tensor: &TensorInfo) -> TensorType {
    match tensor.row_elements().is_multiple_of(256) {
        true => TensorType::Q6_K,
        false => TensorType::Q5_1,
    }
}

fn bits_per_weight(tensor_type: TensorType) -> f64 {
    tensor_type.block_bytes() as f64 * 8.0 / tensor_type.block_elements() as f64
}

#[cfg(test)]
#[path = "mla_experts_tests.rs"]
mod tests;
