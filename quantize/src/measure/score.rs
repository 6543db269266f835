//! The figures of a token and their means, as `llama-perplexity` defines them.
//!
//! In: rows of logits and the tokens that came next in the text. Out: negative log-likelihoods, KL
//! divergences, agreements, and their means with standard errors. Logarithms are natural.

use cloister_engine::evaluate::Token;

/// What one token of the text says about a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenScore {
    /// -ln of the probability that the model gives to the token.
    pub nll: f64,
    /// The same of the base, and how far the model is from it.
    pub against: Option<Against>,
}

/// The base's view of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Against {
    /// -ln of the probability that the base gives to the token.
    pub nll: f64,
    /// Sum over the vocabulary of `p ln(p/q)`, with `p` of the base and `q` of the model.
    pub kl_divergence: f64,
    /// Whether model and base give the highest probability to the same token.
    pub same_top: bool,
}

/// Scores `targets[i]` with the logits in row `i` of the model and, where there is one, of the base.
/// Rows are `[targets.len(), n_vocab]`, row-major, and may be more than targets.
pub fn score(
    logits: &[f32],
    base: Option<&[f32]>,
    n_vocab: usize,
    targets: &[Token],
    threads: usize,
) -> Vec<TokenScore> {
    let mut scores = vec![TokenScore::default(); targets.len()];
    let share = targets.len().div_ceil(threads.max(1)).max(1);
    let row = |rows: &[f32], i: usize| -> std::ops::Range<usize> {
        debug_assert!(rows.len() >= (i + 1) * n_vocab);
        i * n_vocab..(i + 1) * n_vocab
    };
    std::thread::scope(|scope| {
        for (part, scores) in scores.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                for (i, score) in (part * share..).zip(scores) {
                    let logits = &logits[row(logits, i)];
                    let base = base.map(|base| &base[row(base, i)]);
                    *score = score_token(logits, base, targets[i] as usize);
                }
            });
        }
    });
    scores
}

fn score_token(logits: &[f32], base: Option<&[f32]>, target: usize) -> TokenScore {
    let model = Softmax::of(logits);
    let against = base.map(|base| {
        let softmax = Softmax::of(base);
        // sum of p (ln p - ln q) = sum of p (base - logits) - ln of the one sum + ln of the other.
        let mut difference = 0.0;
        for (b, q) in base.iter().zip(logits) {
            difference += f64::from((b - softmax.max).exp()) * f64::from(b - q);
        }
        Against {
            nll: softmax.nll(base[target]),
            kl_divergence: difference / softmax.sum - softmax.ln_sum() + model.ln_sum(),
            same_top: softmax.top == model.top,
        }
    });
    TokenScore {
        nll: model.nll(logits[target]),
        against,
    }
}

/// The denominator of a softmax.
struct Softmax {
    max: f32,
    /// Index of the first logit that is `max`.
    top: usize,
    /// Sum of `exp(logit - max)`.
    sum: f64,
}

impl Softmax {
    fn of(logits: &[f32]) -> Softmax {
        let (mut top, mut max) = (0, logits[0]);
        for (i, &logit) in logits.iter().enumerate() {
            if logit > max {
                (top, max) = (i, logit);
            }
        }
        let sum = logits.iter().map(|l| f64::from((l - max).exp())).sum();
        Softmax { max, top, sum }
    }

    /// ln of the sum of `exp(logit)`.
    fn ln_sum(&self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }

    fn nll(&self, logit: f32) -> f64 {
        self.sum.ln() - f64::from(logit - self.max)
    }
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub stderr: f64,
}

impl Mean {
    /// Of some values.
    pub fn of(values: impl Iterator<Item = f64>) -> Mean {
        let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for value in values {
            (n, sum, squares) = (n + 1.0, sum + value, squares + value * value);
        }
        let mean = sum / n;
        let variance: f64 = squares / n - mean * mean;
        // Rounding can bring it below zero where all values are equal.
        let stderr = match n > 1.0 && variance > 0.0 {
            true => (variance / (n - 1.0)).sqrt(),
            false => 0.0,
        };
        Mean { mean, stderr }
    }

    /// e to its power; the error passes through the derivative.
    pub fn exp(self) -> Mean {
        let mean = self.mean.exp();
        Mean {
            mean,
            stderr: mean * self.stderr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln of the probability of each token, in F64 and by the book.
    fn log_probabilities(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        logits.iter().map(|l| f64::from(*l) - sum.ln()).collect()
    }

    #[test]
    fn scores_are_what_the_definitions_say() {
        let logits = [0.5, -1.0, 3.0, 2.5, 7.0, 6.5, -2.0, 0.0f32];
        let base = [0.7, -1.5, 2.0, 2.6, 7.0, 6.0, -2.5, 0.3f32];
        let scores = score(&logits, Some(&base), 4, &[3, 1], 2);
        for (i, (target, same_top)) in [(3, false), (1, true)].into_iter().enumerate() {
            let q = log_probabilities(&logits[4 * i..4 * i + 4]);
            let p = log_probabilities(&base[4 * i..4 * i + 4]);
            let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            let against = scores[i].against.unwrap();
            assert!((scores[i].nll + q[target]).abs() < 1e-6);
            assert!((against.nll + p[target]).abs() < 1e-6);
            assert!((against.kl_divergence - kl).abs() < 1e-6);
            assert_eq!(against.same_top, same_top);
        }
    }

    #[test]
    fn a_row_is_exactly_as_its_own_base() {
        let logits = [0.25f32, 11.0, -3.5, 8.125, 0.1];
        let against = score(&logits, Some(&logits), 5, &[2], 1)[0].against;
        assert_eq!(against.unwrap().kl_divergence, 0.0);
    }

    #[test]
    fn a_mean_comes_with_its_standard_error() {
        let mean = Mean::of([1.0, 2.0, 3.0, 6.0].into_iter());
        assert_eq!(mean.mean, 3.0);
        // Variance 3.5 over n - 1.
        assert!((mean.stderr - (3.5f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Mean::of([2.0, 2.0].into_iter()).stderr, 0.0);
    }
}
