//! How far what two models say is apart.

use cloister_engine::evaluate::Token;

/// Where answers part, how far apart the two best logits were.
pub fn part(a: &[(Token, f32)], b: &[(Token, f32)]) -> Option<f32> {
    let mut both = a.iter().zip(b);
    let (a, b) = both.find(|(a, b)| a.0 != b.0)?;
    Some(a.1.min(b.1))
}

/// Mean of the KL divergence of rows of `n_vocab` logits.
pub fn mean_divergence(p: &[f32], q: &[f32], n_vocab: usize) -> f64 {
    let ln_softmax = |logits: &[f32]| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let ln = |logit: &f32| f64::from(logit - max);
        let sum: f64 = logits.iter().map(|l| ln(l).exp()).sum();
        logits.iter().map(|l| ln(l) - sum.ln()).collect::<Vec<_>>()
    };
    let rows = p.chunks_exact(n_vocab).zip(q.chunks_exact(n_vocab));
    let count = rows.len() as f64;
    let of_row = |(p, q)| -> f64 {
        let (p, q) = (ln_softmax(p), ln_softmax(q));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    rows.map(of_row).sum::<f64>() / count
}
