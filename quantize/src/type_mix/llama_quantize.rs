//! The mixes of `llama-quantize`, type by type, for the architectures that can be converted. A test
//! holds them against `llama_model_quantize` of the linked llama.cpp, whose `llama-quant.cpp` is the
//! reference.

use cloister_gguf::{TensorInfo, TensorType};

use super::{ModelShape, Recipe, Rules, is_sensitive, layer_of};
use crate::file_type::FileType;

/// What a weight does in the model, as far as these rules care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Output,
    TokenEmbedding,
    /// Values alone, or together with keys and queries: what suffers most from few bits.
    AttentionValue,
    AttentionKey,
    AttentionQuery,
    AttentionOutput,
    FeedForwardGateOrUp,
    FeedForwardDown,
    Other,
}

impl Role {
    fn of(name: &str) -> Role {
        // Experts and shared experts count as feed-forward: their names go on with `_exps`, `_shexp`.
        const PARTS: [(&str, Role); 9] = [
            ("attn_qkv.weight", Role::AttentionValue),
            ("attn_kv_b.weight", Role::AttentionValue),
            ("attn_v.weight", Role::AttentionValue),
            ("attn_k.weight", Role::AttentionKey),
            ("attn_q.weight", Role::AttentionQuery),
            ("attn_output.weight", Role::AttentionOutput),
            ("ffn_up", Role::FeedForwardGateOrUp),
            ("ffn_gate", Role::FeedForwardGateOrUp),
            ("ffn_down", Role::FeedForwardDown),
        ];
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" => Role::TokenEmbedding,
            _ => PARTS
                .iter()
                .find(|(part, _)| name.contains(part))
                .map_or(Role::Other, |(_, role)| *role),
        }
    }
}

impl ModelShape {
    /// So many query heads share one value head that its projection is small.
    fn shares_by_4(&self) -> bool {
        self.heads / self.heads_kv >= 4
    }

    /// The 70B shape has a value projection so small that more bits there cost nearly nothing.
    /// A llama of 80 layers that shares no heads is the older 65B.
    fn is_70b(&self) -> bool {
        self.layers == 80
            && match self.architecture.as_str() {
                "llama" => self.heads != self.heads_kv,
                "qwen2" => true,
                _ => false,
            }
    }
}

/// The rules at work on one model.
pub struct Mixer<'r> {
    recipe: &'r Recipe,
    model: &'r ModelShape,
    /// The token embedding is the output matrix too.
    tied: bool,
    /// Value projections in the model.
    values: u64,
    values_seen: u64,
    downs_seen: u64,
    gates_seen: u64,
    ups_seen: u64,
}

impl<'r> Mixer<'r> {
    pub fn new(recipe: &'r Recipe, model: &'r ModelShape, tensors: &[&TensorInfo]) -> Mixer<'r> {
        let is_value = |t: &&&TensorInfo| Role::of(&t.name) == Role::AttentionValue;
        Mixer {
            recipe,
            model,
            tied: !tensors.iter().any(|t| t.name == "output.weight"),
            values: tensors.iter().filter(is_value).count() as u64,
            values_seen: 0,
            downs_seen: 0,
            gates_seen: 0,
            ups_seen: 0,
        }
    }
}

impl Rules for Mixer<'_> {
    fn wanted(&mut self, tensor: &TensorInfo) -> TensorType {
        use TensorType::*;
        let base = self.recipe.file_type.base();
        let role = Role::of(&tensor.name);
        let is_output = role == Role::Output || (self.tied && role == Role::TokenEmbedding);
        if is_output {
            return self.output(tensor.row_elements());
        }
        if self.recipe.file_type == FileType::MXFP4_MOE {
            // By shape alone, so MLA's matrices for each head count as experts.
            let stacked = tensor.dims.get(2).is_some_and(|&n| n > 1);
            return if stacked { MXFP4 } else { Q8_0 };
        }
        match role {
            Role::TokenEmbedding => self.token_embedding(),
            Role::AttentionValue => {
                self.values_seen += 1;
                self.attention_value(self.values_seen - 1)
            }
            Role::AttentionKey | Role::AttentionQuery => self.attention_key_or_query(role),
            Role::AttentionOutput => self.attention_output(),
            Role::FeedForwardDown => {
                self.downs_seen += 1;
                self.feed_forward_down(self.downs_seen - 1, &tensor.name)
            }
            Role::FeedForwardGateOrUp => {
                let seen = match tensor.name.contains("ffn_up") {
                    true => &mut self.ups_seen,
                    false => &mut self.gates_seen,
                };
                *seen += 1;
                let index = *seen - 1;
                self.feed_forward_gate_or_up(index, &tensor.name)
            }
            Role::Output | Role::Other => base,
        }
    }
}

impl Mixer<'_> {
    fn base(&self) -> TensorType {
        self.recipe.file_type.base()
    }

    /// The file types below three bits that have rules of their own.
    fn is_very_low(&self) -> bool {
        use FileType::*;
        matches!(
            self.recipe.file_type,
            IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ2_M
        )
    }

    /// What the larger two of the very low types give where the smaller four give Q2_K.
    fn very_low_step_up(&self) -> TensorType {
        match self.recipe.file_type {
            FileType::IQ2_S | FileType::IQ2_M => TensorType::IQ3_S,
            _ => TensorType::Q2_K,
        }
    }

    fn output(&self, row: u64) -> TensorType {
        use TensorType::*;
        let base = self.base();
        match self.recipe.file_type {
            FileType::MXFP4_MOE | FileType::Q8_0 => Q8_0,
            _ if !row.is_multiple_of(base.block_elements()) => Q8_0,
            FileType::IQ3_XXS => Q5_K,
            _ if self.is_very_low() => Q5_K,
            _ => Q6_K,
        }
    }

    fn token_embedding(&self) -> TensorType {
        match self.recipe.file_type {
            FileType::IQ3_XXS => TensorType::IQ3_S,
            FileType::TQ1_0 | FileType::TQ2_0 => TensorType::Q4_K,
            _ if self.is_very_low() => self.very_low_step_up(),
            other => other.base(),
        }
    }

    fn attention_value(&self, index: u64) -> TensorType {
        use TensorType::*;
        let shared_by_4 = self.model.shares_by_4();
        if self.is_very_low() {
            return match shared_by_4 || self.model.experts >= 4 {
                true => Q4_K,
                false => self.very_low_step_up(),
            };
        }
        let wanted = match self.recipe.file_type {
            FileType::Q2_K | FileType::Q2_K_S | FileType::IQ3_XXS if shared_by_4 => Q4_K,
            FileType::IQ3_XS | FileType::IQ3_S if shared_by_4 => Q4_K,
            FileType::Q2_K => Q3_K,
            FileType::IQ3_XXS if !self.recipe.has_imatrix => IQ3_S,
            FileType::IQ3_M => Q4_K,
            FileType::Q3_K_M if index < 2 => Q5_K,
            FileType::Q3_K_M => Q4_K,
            FileType::Q3_K_L => Q5_K,
            FileType::IQ4_NL | FileType::IQ4_XS if shared_by_4 => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if is_sensitive(index, self.values) => Q6_K,
            FileType::Q4_K_S if index < 4 => Q5_K,
            other => other.base(),
        };
        if self.model.experts == 8 {
            return Q8_0;
        }
        match wanted {
            Q3_K | Q4_K if self.model.is_70b() => Q5_K,
            other => other,
        }
    }

    fn attention_key_or_query(&self, role: Role) -> TensorType {
        use TensorType::*;
        if role == Role::AttentionKey && self.model.experts == 8 {
            return if self.is_very_low() { Q4_K } else { Q8_0 };
        }
        match self.recipe.file_type {
            FileType::IQ3_XS => IQ3_XXS,
            FileType::IQ3_XXS => IQ2_S,
            other => other.base(),
        }
    }

    fn attention_output(&self) -> TensorType {
        use FileType as F;
        use TensorType::*;
        let file_type = self.recipe.file_type;
        if self.model.experts == 8 {
            return match file_type {
                _ if self.is_very_low() => Q5_K,
                F::Q2_K | F::Q3_K_S | F::Q3_K_M | F::Q4_K_S | F::Q4_K_M => Q5_K,
                F::IQ3_XXS | F::IQ3_XS | F::IQ3_S | F::IQ3_M | F::IQ4_NL | F::IQ4_XS => Q5_K,
                other => other.base(),
            };
        }
        match file_type {
            F::IQ1_S | F::IQ1_M => IQ2_XXS,
            F::IQ2_S | F::IQ2_M | F::IQ3_XXS => IQ3_S,
            F::Q2_K => Q3_K,
            F::Q3_K_M | F::IQ3_M => Q4_K,
            F::Q3_K_L => Q5_K,
            other => other.base(),
        }
    }

    /// The layer of a tensor that is number `index` of its kind. Where a layer may have several
    /// (experts and shared experts), its name tells.
    fn layer(&self, index: u64, name: &str) -> u64 {
        match self.model.experts {
            0 | 1 => index,
            _ => layer_of(name).try_into().unwrap_or(0),
        }
    }

    fn feed_forward_down(&self, index: u64, name: &str) -> TensorType {
        use FileType as F;
        use TensorType::*;
        let layers = self.model.layers;
        if self.is_very_low() {
            // By number even with experts.
            return match index < layers / 8 {
                true => self.very_low_step_up(),
                false => self.base(),
            };
        }
        let layer = self.layer(index, name);
        let first_eighth = layer < layers / 8;
        let sensitive = is_sensitive(layer, layers);
        let with_imatrix = self.recipe.has_imatrix;
        match self.recipe.file_type {
            F::Q2_K => Q3_K,
            F::Q2_K_S if first_eighth => Q4_K,
            F::IQ3_XXS if !with_imatrix && first_eighth => Q4_K,
            F::IQ3_XXS if !with_imatrix => Q3_K,
            F::Q3_K_M if layer < layers / 16 => Q5_K,
            F::Q3_K_M => Q4_K,
            F::Q3_K_L => Q5_K,
            F::IQ3_M if first_eighth || (self.model.experts == 8 && sensitive) => Q4_K,
            F::IQ4_NL | F::IQ4_XS if first_eighth && !with_imatrix => Q5_K,
            F::Q4_K_M | F::Q5_K_M if sensitive => Q6_K,
            F::Q4_K_S if first_eighth => Q5_K,
            F::Q4_0 if first_eighth && with_imatrix => Q4_1,
            F::Q5_0 if first_eighth && with_imatrix => Q5_1,
            other => other.base(),
        }
    }

    fn feed_forward_gate_or_up(&self, index: u64, name: &str) -> TensorType {
        let (layer, layers) = (self.layer(index, name), self.model.layers);
        match self.recipe.file_type {
            FileType::IQ3_XS if (layers / 8..7 * layers / 8).contains(&layer) => {
                TensorType::IQ3_XXS
            }
            other => other.base(),
        }
    }
}
