//! What a tensor is for, and sums over tensors of one purpose: where a model's bytes are.
//!
//! In: tensors by their GGUF names. Out: a [`ClassSum`] for each class that occurs.

use std::collections::BTreeMap;

use cloister_gguf::{TensorInfo, TensorType};

/// A purpose, in the order in which a table shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `token_embd`.
    Embedding,
    /// Projections of attention, MLA's among them.
    Attention,
    /// The feed-forward matrices of dense layers.
    FeedForward,
    /// Those of experts that every token meets.
    SharedExperts,
    /// `ffn_gate_exps` and `ffn_up_exps`.
    ExpertsGateUp,
    /// `ffn_down_exps`.
    ExpertsDown,
    /// `output`.
    Output,
    /// Norms, biases, the matrix that scores the experts, rope factors.
    Rest,
}

impl Class {
    /// The class of the tensor of this name.
    pub fn of(name: &str) -> Class {
        let name = name.strip_prefix("blk.").map_or(name, |in_layer| {
            in_layer.split_once('.').map_or(in_layer, |(_, part)| part)
        });
        match name {
            "token_embd.weight" => Class::Embedding,
            "output.weight" => Class::Output,
            "ffn_down_exps.weight" => Class::ExpertsDown,
            "ffn_gate_exps.weight" | "ffn_up_exps.weight" => Class::ExpertsGateUp,
            "ffn_gate_shexp.weight" | "ffn_up_shexp.weight" | "ffn_down_shexp.weight" => {
                Class::SharedExperts
            }
            "ffn_gate.weight" | "ffn_up.weight" | "ffn_down.weight" => Class::FeedForward,
            _ if name.starts_with("attn_")
                && name.ends_with(".weight")
                && !name.ends_with("_norm.weight") =>
            {
                Class::Attention
            }
            _ => Class::Rest,
        }
    }

    /// What people read, and what JSON has.
    pub fn name(self) -> &'static str {
        match self {
            Class::Embedding => "embedding",
            Class::Attention => "attention",
            Class::FeedForward => "feed-forward",
            Class::SharedExperts => "shared experts",
            Class::ExpertsGateUp => "experts' gate and up",
            Class::ExpertsDown => "experts' down",
            Class::Output => "output",
            Class::Rest => "norms and the rest",
        }
    }
}

/// Sums over tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassSum {
    /// How many tensors.
    pub tensors: u64,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Elements of each type, the most frequent first.
    pub types: Vec<(TensorType, u64)>,
}

impl ClassSum {
    /// Sums over `tensors`. In a file that lies, a sum may be beyond 2^64: then it stays below.
    pub fn of<'t>(tensors: impl IntoIterator<Item = &'t TensorInfo>) -> ClassSum {
        let mut sum = ClassSum::default();
        for tensor in tensors {
            sum.add(tensor);
        }
        sum
    }

    fn add(&mut self, tensor: &TensorInfo) {
        let elements = tensor.elements();
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(elements);
        self.bytes = self.bytes.saturating_add(tensor.bytes());
        let mut types = self.types.iter_mut();
        match types.find(|(t, _)| *t == tensor.tensor_type) {
            Some((_, sum)) => *sum = sum.saturating_add(elements),
            None => self.types.push((tensor.tensor_type, elements)),
        }
        self.types.sort_by_key(|&(_, elements)| u64::MAX - elements);
    }

    /// 0 without a tensor.
    pub fn bits_per_weight(&self) -> f64 {
        match self.parameters {
            0 => 0.0,
            parameters => self.bytes as f64 * 8.0 / parameters as f64,
        }
    }

    /// `Q4_K, Q6_K`.
    pub fn type_names(&self) -> String {
        let names: Vec<&str> = self.types.iter().map(|(t, _)| t.name()).collect();
        names.join(", ")
    }
}

/// Sums by class, in the order of the classes.
pub fn by_class<'t>(
    tensors: impl IntoIterator<Item = &'t TensorInfo>,
) -> BTreeMap<Class, ClassSum> {
    let mut sums = BTreeMap::<Class, ClassSum>::new();
    for tensor in tensors {
        let class = Class::of(&tensor.name);
        sums.entry(class).or_default().add(tensor);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_tensor_is_for() {
        for (name, class) in [
            ("token_embd.weight", Class::Embedding),
            ("blk.0.attn_q.weight", Class::Attention),
            ("blk.61.attn_kv_a_mqa.weight", Class::Attention),
            ("blk.0.attn_k_b.weight", Class::Attention),
            ("blk.0.attn_kv_a_norm.weight", Class::Rest),
            ("blk.0.attn_q.bias", Class::Rest),
            ("blk.3.ffn_gate_inp.weight", Class::Rest),
            ("blk.3.ffn_up_exps.weight", Class::ExpertsGateUp),
            ("blk.3.ffn_down_exps.weight", Class::ExpertsDown),
            ("blk.3.ffn_down_shexp.weight", Class::SharedExperts),
            ("blk.3.ffn_down.weight", Class::FeedForward),
            ("output.weight", Class::Output),
            ("output_norm.weight", Class::Rest),
            ("blk.", Class::Rest),
        ] {
            assert_eq!(Class::of(name), class, "{name}");
        }
    }

    #[test]
    fn sums_name_the_most_frequent_type_first() {
        let tensor = |rows, t| TensorInfo::new("output.weight", vec![256, rows], t).unwrap();
        let tensors = [
            tensor(1, TensorType::Q6_K),
            tensor(3, TensorType::Q4_K),
            tensor(1, TensorType::Q6_K),
        ];
        let sum = &by_class(&tensors)[&Class::Output];
        assert_eq!(sum.type_names(), "Q4_K, Q6_K");
        assert_eq!((sum.tensors, sum.parameters), (3, 5 * 256));
        assert_eq!(sum.bits_per_weight(), (3.0 * 4.5 + 2.0 * 6.5625) / 5.0);
    }
}
