//! Which tensor gets which type: the mixes behind the file types.
//!
//! In: a [`Recipe`] (what the person asked for), the model's shape, every tensor. Out: a type for
//! each tensor. Dense models get llama-quantize's mixes (`llama_quantize`), so that a `Q4_K_M` of
//! ours is the `Q4_K_M` that everybody compares with; for MLA with experts and less than four bits
//! there are mixes of our own (`mla_experts`), unless llama-quantize's are asked for. A person's own
//! choices (`tensor_override`) come before either.

mod llama_quantize;
mod mla_experts;
mod tensor_override;

use anyhow::{Result, bail};
use cloister_gguf::{TensorInfo, TensorType};

use crate::file_type::FileType;
pub use tensor_override::TensorOverride;

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

/// What decides the types, apart from the model.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The file type.
    pub file_type: FileType,
    /// llama-quantize's choice for every model.
    pub like_llama_quantize: bool,
    /// The person's own choices; the first whose pattern is found in a tensor's name decides. As in
    /// llama-quantize, without effect on file types that are not quantized.
    pub overrides: Vec<TensorOverride>,
    /// An importance matrix is at hand.
    pub has_imatrix: bool,
    /// In our own mixes, so many of the layers that are not sensitive have the experts' `down` matrices of
    /// those that are: what is spent where there is room beyond a file type.
    pub raised: u64,
}

impl Recipe {
    /// The mix that a file type means by itself, without an importance matrix.
    pub fn of(file_type: FileType) -> Recipe {
        Recipe {
            file_type,
            like_llama_quantize: false,
            overrides: Vec::new(),
            has_imatrix: false,
            raised: 0,
        }
    }

    /// How far this recipe can be `raised`.
    pub fn raisable(&self, model: &ModelShape) -> u64 {
        match mla_experts::Mix::of(self.file_type, model) {
            Some(mix) if !self.like_llama_quantize => mix.raisable(),
            _ => 0,
        }
    }

    /// The type of each tensor of `tensors`, in their order; `None` for those that stay as they are.
    pub fn choose(&self, model: &ModelShape, tensors: &[&TensorInfo]) -> Vec<Option<TensorType>> {
        let wanted = self.wanted(model, tensors).into_iter().zip(tensors);
        let fit = |(wanted, tensor): (Option<TensorType>, &&TensorInfo)| {
            Some(fitting(wanted?, tensor.row_elements()))
        };
        wanted.map(fit).collect()
    }

    /// How many tensors get another type than the mix means for them, as their rows fill no whole
    /// number of its blocks.
    pub fn fallbacks(&self, model: &ModelShape, tensors: &[&TensorInfo]) -> usize {
        let wanted = self.wanted(model, tensors).into_iter().zip(tensors);
        let fallback = |(wanted, tensor): &(Option<TensorType>, &&TensorInfo)| {
            wanted.is_some_and(|w| !tensor.row_elements().is_multiple_of(w.block_elements()))
        };
        wanted.filter(fallback).count()
    }

    /// The type that the mix means for each tensor, whether or not its rows fit.
    fn wanted(&self, model: &ModelShape, tensors: &[&TensorInfo]) -> Vec<Option<TensorType>> {
        let base = self.file_type.base();
        let mut rules: Box<dyn Rules> = match mla_experts::Mix::of(self.file_type, model) {
            Some(mix) if !self.like_llama_quantize => Box::new(mix.raised(self.raised)),
            _ => Box::new(llama_quantize::Mixer::new(self, model, tensors)),
        };
        // "The third value projection" means the third by layer, wherever it lies in the file.
        let mut by_layer: Vec<usize> = (0..tensors.len()).collect();
        by_layer.sort_by_key(|&i| (layer_of(&tensors[i].name), &tensors[i].name));

        let mut types = vec![None; tensors.len()];
        for i in by_layer {
            let tensor = tensors[i];
            if !is_quantizable(tensor) {
                continue;
            }
            let wanted = match self.override_of(tensor) {
                _ if !base.is_quantized() => base,
                Some(own) => own,
                None => rules.wanted(tensor),
            };
            types[i] = Some(wanted);
        }
        types
    }

    /// Fails if a tensor's chosen type is so low that without an importance matrix for it the
    /// result would be noise. `has_entry` tells whether there is one for a tensor's name.
    pub fn check_importance(
        &self,
        tensors: &[&TensorInfo],
        chosen: &[Option<TensorType>],
        has_entry: impl Fn(&str) -> bool,
    ) -> Result<()> {
        for (tensor, chosen) in tensors.iter().zip(chosen) {
            let Some(to) = *chosen else { continue };
            if !self.needs_importance(&tensor.name, to) || has_entry(&tensor.name) {
                continue;
            }
            let name = &tensor.name;
            if self.has_imatrix {
                bail!(
                    "the imatrix has no entry for {name}, which is to become {to}: without one the \
                     result would be noise; collect the imatrix from this model, or give the tensor \
                     another type with --tensor-type"
                );
            }
            bail!(
                "{} needs an importance matrix (tensor {name} is to become {to}): give one with \
                 --imatrix, or choose a larger type such as Q2_K or Q3_K_S",
                self.file_type
            );
        }
        Ok(())
    }

    /// Fails if something that the person asked for changes nothing.
    pub fn check_effect(&self, model: &ModelShape, tensors: &[&TensorInfo]) -> Result<()> {
        if self.file_type == FileType::MXFP4_MOE && model.experts == 0 && !self.like_llama_quantize
        {
            bail!(
                "MXFP4_MOE gives experts 4 bits and everything else 8, and this model has no experts: \
                 choose Q8_0, or Q4_K_M for 4 bits"
            );
        }
        let base = self.file_type.base();
        for own in &self.overrides {
            if !base.is_quantized() {
                bail!("--tensor-type {own}: has no effect with --type {base}; leave it out");
            }
            let found = |t: &&TensorInfo| is_quantizable(t) && own.matches(&t.name);
            if !tensors.iter().copied().any(|t| found(&t)) {
                bail!(
                    "--tensor-type {own}: matches the name of no tensor that is quantized; \
                     inspect shows the names"
                );
            }
        }
        Ok(())
    }

    fn needs_importance(&self, name: &str, to: TensorType) -> bool {
        use TensorType::*;
        // llama-quantize lets these two be: they have entries in few importance matrices. But for
        // three types ggml itself does nothing without.
        if name == "token_embd.weight" || name == "output.weight" {
            return matches!(to, IQ1_S | IQ2_XXS | IQ2_XS);
        }
        match to {
            IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS => true,
            Q2_K => self.file_type == FileType::Q2_K_S,
            _ => false,
        }
    }

    fn override_of(&self, tensor: &TensorInfo) -> Option<TensorType> {
        let found = self.overrides.iter().find(|o| o.matches(&tensor.name));
        found.map(|o| o.tensor_type)
    }
}

/// A set of rules for quantized file types. It is asked for each tensor that is quantized and that no
/// override names, by layer and then by name.
trait Rules {
    /// The type that a tensor should have, whether or not its rows fit.
    fn wanted(&mut self, tensor: &TensorInfo) -> TensorType;
}

/// Whether a tensor takes part: weights of matrices do; norms, biases, rope factors and the matrix
/// that scores the experts do not.
pub fn is_quantizable(tensor: &TensorInfo) -> bool {
    // A trailing dimension of 1 is no dimension to ggml.
    tensor.dims[1..].iter().any(|&dim| dim > 1)
        && tensor.name.ends_with("weight")
        && !tensor.name.contains("_norm.weight")
        && !tensor.name.contains("ffn_gate_inp.weight")
}

/// The number in `blk.7.attn_q.weight`, or -1.
fn layer_of(name: &str) -> i64 {
    let number = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split('.').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(-1)
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
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
        Q2_K | Q3_K | TQ1_0 | TQ2_0 => Q4_0,
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
