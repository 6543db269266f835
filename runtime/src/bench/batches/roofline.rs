//! What the machine could do at most with a batch: reading a model's weights, and multiplying them, at its measured
//! peaks. Attention, norms and what the threads wait for each other are not in it.

use cloister_engine::bench::peak::Peaks;
use cloister_gguf::{Metadata, TensorInfo};

/// Weights that the same tokens of a batch meet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Part {
    /// Bytes of those that every token meets.
    bytes: f64,
    /// Bytes of the experts that a token meets.
    expert_bytes: f64,
    /// Weights that a token meets: each costs a product and a sum.
    weights: f64,
}

/// What a step with a batch has to do at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Met by every token.
    all: Part,
    /// Met only by tokens whose logits are wanted: the head, and the last layer behind its attention.
    wanted: Part,
    /// Experts, for one that a token meets.
    experts: f64,
}

impl Work {
    /// That of a model file.
    pub fn of(metadata: &Metadata, tensors: &[TensorInfo]) -> Self {
        let architecture = metadata.str("general.architecture").unwrap_or("");
        let number = |what| metadata.u64(&format!("{architecture}.{what}"));
        let count = |what| number(what).unwrap_or(1).max(1) as f64;
        let experts = count("expert_count") / count("expert_used_count");
        let last = format!("blk.{}.ffn_", number("block_count").unwrap_or(0).max(1) - 1);
        // Of embeddings that are not the head as well, one row is looked up.
        let tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
        let mut work = Self {
            all: Part::default(),
            wanted: Part::default(),
            experts,
        };
        for tensor in tensors {
            let embeddings = tensor.name == "token_embd.weight";
            let vector = tensor.rows() == 1;
            if vector || embeddings && !tied {
                continue;
            }
            let head = embeddings || tensor.name == "output.weight";
            let part = if head || tensor.name.starts_with(&last) {
                &mut work.wanted
            } else {
                &mut work.all
            };
            let (bytes, weights) = (tensor.bytes() as f64, tensor.elements() as f64);
            if tensor.name.contains("_exps.") {
                part.expert_bytes += bytes / experts;
                part.weights += weights / experts;
            } else {
                part.bytes += bytes;
                part.weights += weights;
            }
        }
        work
    }

    /// Bytes that a token alone, whose logits are wanted, has read.
    pub fn bytes(self) -> f64 {
        self.read(1.0, 1.0)
    }

    /// Operations that such a token costs.
    pub fn operations(self) -> f64 {
        self.multiplied(1.0, 1.0)
    }

    /// At most this many tokens a second with a batch of `n`, of which the logits of `wanted` are.
    pub fn limit(self, peaks: Peaks, n: u32, wanted: u32) -> f64 {
        let (n, wanted) = (f64::from(n), f64::from(wanted));
        let read = self.read(n, wanted) / peaks.bytes;
        let multiply = peaks
            .operations
            .map_or(0.0, |operations| self.multiplied(n, wanted) / operations);
        n / f64::max(read, multiply)
    }

    /// Bytes: all weights once, of experts as many as the tokens can meet.
    fn read(self, n: f64, wanted: f64) -> f64 {
        [(self.all, n), (self.wanted, wanted)]
            .map(|(part, n)| part.bytes + f64::min(n, self.experts) * part.expert_bytes)
            .iter()
            .sum()
    }

    /// Operations: a product and a sum for each weight and each token that meets it.
    fn multiplied(self, n: f64, wanted: f64) -> f64 {
        2.0 * (self.all.weights * n + self.wanted.weights * wanted)
    }
}

#[cfg(test)]
mod tests {
    use cloister_gguf::TensorType;

    use super::*;

    fn work(experts: Option<[u64; 2]>, tensors: &[(&str, &[u64])]) -> Work {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", "qwen2");
        metadata.set("qwen2.block_count", 2u32);
        if let Some([all, used]) = experts {
            metadata.set("qwen2.expert_count", all as u32);
            metadata.set("qwen2.expert_used_count", used as u32);
        }
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, dims)| TensorInfo::new(*name, dims.to_vec(), TensorType::F16).unwrap())
            .collect();
        Work::of(&metadata, &tensors)
    }

    const LAYERS: [(&str, &[u64]); 6] = [
        ("token_embd.weight", &[32, 1000]),
        ("blk.0.attn_norm.weight", &[32]),
        ("blk.0.attn_q.weight", &[32, 32]),
        ("blk.0.ffn_up.weight", &[32, 100]),
        ("blk.1.attn_q.weight", &[32, 32]),
        ("blk.1.ffn_up.weight", &[32, 100]),
    ];
    /// What every token meets of them, and what only those do whose logits are wanted.
    const ALL: f64 = 32.0 * (32.0 + 100.0 + 32.0);
    const LAST: f64 = 32.0 * 100.0;
    const HEAD: f64 = 32.0 * 1000.0;

    fn peaks(bytes: f64, operations: f64) -> Peaks {
        Peaks {
            bytes,
            operations: Some(operations),
        }
    }

    #[test]
    fn the_head_meets_the_tokens_whose_logits_are_wanted() {
        let work = work(None, &LAYERS);
        let of = |wanted| work.limit(peaks(1e30, 1.0), 8, wanted);
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 1e-12;
        assert!(near(of(1), 8.0 / (2.0 * (8.0 * ALL + LAST + HEAD))));
        assert!(near(of(8), 8.0 / (2.0 * (8.0 * ALL + 8.0 * (LAST + HEAD)))));
        // However many meet it, it is read once.
        for wanted in [1, 8] {
            let limit = work.limit(peaks(1.0, 1e30), 8, wanted);
            assert!(near(limit, 8.0 / (2.0 * (ALL + LAST + HEAD))));
        }
        assert_eq!(work.operations(), work.bytes());
    }

    #[test]
    fn a_head_of_its_own_leaves_the_embeddings_to_be_looked_up() {
        let untied = [&LAYERS[..], &[("output.weight", &[32, 1000])]].concat();
        assert_eq!(work(None, &untied), work(None, &LAYERS));
    }

    #[test]
    fn of_experts_those_count_that_a_token_meets() {
        let experts = [("blk.0.ffn_up_exps.weight", &[32, 10, 8][..])];
        let work = work(Some([8, 2]), &experts);
        let one = 32.0 * 10.0;
        assert_eq!(work.operations(), 2.0 * 2.0 * one);
        // Two tokens meet four of eight at most, and nine not more than there are.
        for (n, met) in [(1, 2.0), (2, 4.0), (9, 8.0)] {
            let limit = work.limit(peaks(1.0, 1e30), n, 1);
            assert_eq!(limit, f64::from(n) / (2.0 * met * one));
        }
    }
}
