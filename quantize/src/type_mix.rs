//! Which tensor gets which type: the mixtures behind the file types, so that a `Q4_K_M` of ours is
//! the `Q4_K_M` that everybody compares with. The rules are those of `llama-quantize` without an
//! importance matrix, for the architectures llama and qwen2; a test holds them against it.
//!
//! In: the file type, the model's shape, every tensor. Out: a type for each tensor.

use cloister_gguf::{TensorInfo, TensorType};

use crate::file_type::FileType;

/// What the rules need to know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelShape {
    /// `general.architecture`.
    pub architecture: String,
    /// Transformer layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub heads_kv: u64,
    /// Experts in a layer; 0 in a dense model.
    pub experts: u64,
}

impl ModelShape {
    /// Query heads that share one value head.
    fn sharing(&self) -> u64 {
        self.heads / self.heads_kv
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

/// What a weight does in the model, as far as the rules care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Output,
    TokenEmbedding,
    AttentionValue,
    AttentionOutput,
    FeedForwardDown,
    Other,
}

impl Role {
    fn of(name: &str) -> Role {
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" => Role::TokenEmbedding,
            _ if name.contains("attn_v.weight") || name.contains("attn_qkv.weight") => {
                Role::AttentionValue
            }
            _ if name.contains("attn_output.weight") => Role::AttentionOutput,
            _ if name.contains("ffn_down") => Role::FeedForwardDown,
            _ => Role::Other,
        }
    }
}

/// Whether a tensor takes part: weights of matrices do; norms, biases and rope factors do not.
pub fn is_quantizable(tensor: &TensorInfo) -> bool {
    // A trailing dimension of 1 is no dimension to ggml.
    tensor.dims[1..].iter().any(|&dim| dim > 1)
        && tensor.name.ends_with("weight")
        && !tensor.name.contains("_norm.weight")
}

/// The type of each tensor of `tensors` in a file of type `file_type`; `None` for those that stay
/// as they are.
pub fn choose(
    file_type: FileType,
    model: &ModelShape,
    tensors: &[&TensorInfo],
) -> Vec<Option<TensorType>> {
    let is_value = |t: &&TensorInfo| Role::of(&t.name) == Role::AttentionValue;
    let mixer = Mixer {
        file_type,
        model,
        tied: !tensors.iter().any(|t| t.name == "output.weight"),
        values: tensors.iter().copied().filter(is_value).count() as u64,
    };
    // "The third value projection" means the third by layer, wherever it lies in the file.
    let mut by_layer: Vec<usize> = (0..tensors.len()).collect();
    by_layer.sort_by_key(|&i| (layer_of(&tensors[i].name), &tensors[i].name));

    let mut types = vec![None; tensors.len()];
    let (mut values_seen, mut downs_seen) = (0, 0);
    for i in by_layer {
        let tensor = tensors[i];
        if !is_quantizable(tensor) {
            continue;
        }
        let role = Role::of(&tensor.name);
        let seen = match role {
            Role::AttentionValue => &mut values_seen,
            Role::FeedForwardDown => &mut downs_seen,
            _ => &mut 0,
        };
        let row = tensor.row_elements();
        types[i] = Some(if file_type.base().is_quantized() {
            fitting(mixer.wanted(role, *seen, row), row)
        } else {
            file_type.base()
        });
        *seen += 1;
    }
    types
}

/// The number in `blk.7.attn_q.weight`, or -1.
fn layer_of(name: &str) -> i64 {
    let number = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split('.').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(-1)
}

struct Mixer<'m> {
    file_type: FileType,
    model: &'m ModelShape,
    /// The token embedding is the output matrix too.
    tied: bool,
    /// Value projections in the model.
    values: u64,
}

impl Mixer<'_> {
    /// The type that a quantized file type wants for the tensor of this role that is number `index`
    /// of its kind, whether or not its rows fit.
    fn wanted(&self, role: Role, index: u64, row: u64) -> TensorType {
        use TensorType::*;
        let base = self.file_type.base();
        match role {
            Role::TokenEmbedding if !self.tied => base,
            Role::Output | Role::TokenEmbedding => {
                if base == Q8_0 || !row.is_multiple_of(base.block_elements()) {
                    Q8_0
                } else {
                    Q6_K
                }
            }
            Role::AttentionValue => match self.attention_value(index) {
                Q3_K | Q4_K if self.model.is_70b() => Q5_K,
                other => other,
            },
            Role::AttentionOutput => match self.file_type {
                FileType::Q2_K => Q3_K,
                FileType::Q3_K_M => Q4_K,
                _ => base,
            },
            Role::FeedForwardDown => self.feed_forward_down(index),
            Role::Other => base,
        }
    }

    fn attention_value(&self, index: u64) -> TensorType {
        use TensorType::*;
        let shared_by_4 = self.model.sharing() >= 4;
        match self.file_type {
            FileType::Q2_K if shared_by_4 => Q4_K,
            FileType::Q2_K => Q3_K,
            FileType::Q3_K_M if index < 2 => Q5_K,
            FileType::Q3_K_M => Q4_K,
            FileType::IQ4_XS if shared_by_4 => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if is_sensitive(index, self.values) => Q6_K,
            other => other.base(),
        }
    }

    fn feed_forward_down(&self, index: u64) -> TensorType {
        use TensorType::*;
        let layers = self.model.layers;
        match self.file_type {
            FileType::Q2_K => Q3_K,
            FileType::Q3_K_M if index < layers / 16 => Q5_K,
            FileType::Q3_K_M => Q4_K,
            FileType::IQ4_XS if index < layers / 8 => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if is_sensitive(index, layers) => Q6_K,
            other => other.base(),
        }
    }
}

/// The layers that get more bits: the first eighth, the last, and every third between.
fn is_sensitive(index: u64, layers: u64) -> bool {
    let eighth = layers / 8;
    index < eighth || index >= 7 * layers / 8 || (index - eighth) % 3 == 2
}

/// `wanted`, or a type of smaller blocks and at least as many bits where rows of `row` elements fill
/// no whole number of its blocks.
fn fitting(wanted: TensorType, row: u64) -> TensorType {
    use TensorType::*;
    if row.is_multiple_of(wanted.block_elements()) {
        return wanted;
    }
    let smaller = match wanted {
        IQ4_XS => IQ4_NL,
        Q2_K | Q3_K => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    };
    if row.is_multiple_of(smaller.block_elements()) {
        smaller
    } else {
        F16
    }
}
