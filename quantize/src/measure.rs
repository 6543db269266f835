//! `cloister-quantize measure`: how well a model predicts a text, and how far it is from another one,
//! as `llama-perplexity` (`--kl-divergence`) defines the figures: the text is cut into windows, and
//! the tokens of each window's second half are scored.
//!
//! In: a model, a text, and maybe a base with the same vocabulary. Out: a few lines, or stable JSON.
//! Both models run side by side, so the base's logits are compared as they are, in F32, and no file
//! of them is written. (llama-perplexity stores them in 16 bits, which alone gives a divergence of
//! some 0.0005.)

mod score;

use std::path::Path;

use anyhow::{Result, bail};
use cloister_engine::evaluate::Evaluator;
use cloister_gguf::Gguf;
use cloister_program::output;
use serde_json::{Value as Json, json};

use crate::text_windows::{Text, note_long_windows};
use score::{Mean, TokenScore, score};

/// Measures the model at `path` on a text, in windows of `n_ctx` tokens, and prints the figures.
pub fn measure(
    path: &Path,
    text_path: &Path,
    against: Option<&Path>,
    n_ctx: u32,
    chunks: Option<usize>,
    json: bool,
) -> Result<()> {
    let text = Text::read(text_path)?;
    if let Some(base) = against {
        check_same_vocabulary(path, base)?;
    }
    let mut model = Evaluator::load(path, n_ctx, None)?;
    note_long_windows(&model, path, n_ctx);
    let mut base = match against {
        Some(base) => Some(Evaluator::load(base, n_ctx, None)?),
        None => None,
    };
    let windows = text.windows(base.as_ref().unwrap_or(&model), n_ctx as usize, chunks)?;
    let threads = cloister_engine::usable_cores();
    let first = n_ctx as usize / 2;
    let mut scores: Vec<TokenScore> = Vec::new();
    let progress = windows.progress_bar();
    for (number, window) in windows.iter().enumerate() {
        model.begin_window();
        if let Some(base) = &mut base {
            base.begin_window();
        }
        let mut begin = 0;
        for batch in window.chunks(model.n_batch()) {
            let (n_vocab, end) = (model.n_vocab(), begin + batch.len());
            let base = match &mut base {
                Some(base) => Some(base.compute(batch, first)?),
                None => None,
            };
            let logits = model.compute(batch, first)?;
            // The logits after a token are held against the one that follows it.
            let targets = (begin.max(first) + 1).min(n_ctx as usize)..(end + 1).min(n_ctx as usize);
            if !targets.is_empty() {
                scores.extend(score(logits, base, n_vocab, &window[targets], threads));
            }
            begin = end;
        }
        let finite = |s: &TokenScore| {
            s.nll.is_finite()
                && s.against
                    .is_none_or(|a| (a.nll + a.kl_divergence).is_finite())
        };
        if !scores.iter().all(finite) {
            bail!(
                "{}: window {} gives logits that are not finite; the model is damaged",
                path.display(),
                number + 1
            );
        }
        progress.set_message(format!("perplexity {:.4}", perplexity(&scores).mean));
        progress.inc(1);
    }
    progress.finish_and_clear();

    let figures = Figures {
        path,
        text: text_path,
        against,
        n_ctx,
        windows: windows.count(),
        scores,
    };
    let shown = match json {
        true => format!("{:#}", figures.json()),
        false => figures.table(),
    };
    output::print(shown.trim_end())?;
    Ok(())
}

/// Two models can be held against each other when a token means the same to both.
fn check_same_vocabulary(path: &Path, base: &Path) -> Result<()> {
    let (model, other) = (Gguf::open(path)?, Gguf::open(base)?);
    for key in [
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ] {
        if model.metadata.get(key) != other.metadata.get(key) {
            bail!(
                "{} and {} have different vocabularies ({key}); only models with the same one can be compared",
                path.display(),
                base.display()
            );
        }
    }
    Ok(())
}

fn perplexity(scores: &[TokenScore]) -> Mean {
    Mean::of(scores.iter().map(|s| s.nll)).exp()
}

/// What was measured.
struct Figures<'a> {
    path: &'a Path,
    text: &'a Path,
    against: Option<&'a Path>,
    n_ctx: u32,
    windows: usize,
    scores: Vec<TokenScore>,
}

impl Figures<'_> {
    /// The mean of a figure over all tokens that have one.
    fn mean(&self, figure: impl Fn(f64, score::Against) -> f64) -> Mean {
        let of = |s: &TokenScore| s.against.map(|against| figure(s.nll, against));
        Mean::of(self.scores.iter().filter_map(of))
    }

    fn base_perplexity(&self) -> Mean {
        self.mean(|_, against| against.nll).exp()
    }

    /// ln of the model's perplexity over the base's; token by token, so that what makes a text hard
    /// for both does not widen the error.
    fn ln_ratio(&self) -> Mean {
        self.mean(|nll, against| nll - against.nll)
    }

    fn kl_divergence(&self) -> Mean {
        self.mean(|_, against| against.kl_divergence)
    }

    fn same_top(&self) -> Mean {
        self.mean(|_, against| f64::from(u8::from(against.same_top)))
    }

    fn table(&self) -> String {
        let Mean { mean, stderr } = perplexity(&self.scores);
        let mut lines = vec![format!("perplexity          {mean:10.4} ± {stderr:.4}")];
        if let Some(base) = self.against {
            let Mean { mean, stderr } = self.base_perplexity();
            let base = base.display();
            lines.push(format!(
                "perplexity of base  {mean:10.4} ± {stderr:.4}  {base}"
            ));
            let Mean { mean, stderr } = self.ln_ratio();
            lines.push(format!("ln of their ratio   {mean:10.5} ± {stderr:.5}"));
            let Mean { mean, stderr } = self.kl_divergence();
            lines.push(format!(
                "mean KL divergence  {mean:10.5} ± {stderr:.5}  (all of the base's logits, in F32)"
            ));
            let same = self.same_top();
            let (mean, stderr) = (100.0 * same.mean, 100.0 * same.stderr);
            lines.push(format!("same top token      {mean:10.3} ± {stderr:.3} %"));
        }
        lines.push(format!(
            "{} tokens scored, in {} windows of {}",
            self.scores.len(),
            self.windows,
            self.n_ctx
        ));
        lines.join("\n") + "\n"
    }

    /// Keys are only ever added.
    fn json(&self) -> Json {
        let mean = |Mean { mean, stderr }| json!({"mean": mean, "stderr": stderr});
        let against = self.against.map(|base| {
            json!({
                "model": base.to_string_lossy(),
                "perplexity": mean(self.base_perplexity()),
                "ln_perplexity_ratio": mean(self.ln_ratio()),
                "kl_divergence": mean(self.kl_divergence()),
                "same_top": mean(self.same_top()),
                "base_logits": "f32",
            })
        });
        json!({
            "model": self.path.to_string_lossy(),
            "text": self.text.to_string_lossy(),
            "ctx": self.n_ctx,
            "chunks": self.windows,
            "scored_tokens": self.scores.len(),
            "perplexity": mean(perplexity(&self.scores)),
            "against": against,
        })
    }
}
