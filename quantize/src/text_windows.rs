//! A text as the windows of tokens that `measure` and `imatrix` run a model over: the same ones as
//! llama.cpp's tools make of it.
//!
//! In: a text file and a model that tokenizes it. Out: windows of equal length, one after the other;
//! what is left over at the end is not used.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cloister_engine::evaluate::{Evaluator, Token};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A text that has been read.
pub struct Text {
    path: PathBuf,
    content: String,
}

impl Text {
    /// Reads a UTF-8 file. A line break at its very end is no part of the text, as with llama.cpp's
    /// tools.
    pub fn read(path: &Path) -> Result<Text> {
        let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
        let mut content = match String::from_utf8(bytes) {
            Ok(content) => content,
            Err(error) => bail!(
                "{}: the text is not UTF-8 at byte {}",
                path.display(),
                error.utf8_error().valid_up_to()
            ),
        };
        if content.ends_with('\n') {
            content.pop();
        }
        Ok(Text {
            path: path.into(),
            content,
        })
    }

    /// Its windows of `n_ctx` tokens: all, or the first `limit`.
    ///
    /// # Errors
    /// If it does not fill a single one.
    pub fn windows(
        &self,
        model: &Evaluator,
        n_ctx: usize,
        limit: Option<usize>,
    ) -> Result<Windows> {
        let tokens = model.tokenize(&self.content);
        let count = (tokens.len() / n_ctx).min(limit.unwrap_or(usize::MAX));
        if count == 0 {
            bail!(
                "{}: {} tokens do not fill one window of {n_ctx}; use a longer text or a smaller --ctx",
                self.path.display(),
                tokens.len()
            );
        }
        Ok(Windows {
            tokens,
            n_ctx,
            count,
        })
    }
}

/// Windows of a text, each of `n_ctx` tokens.
pub struct Windows {
    tokens: Vec<Token>,
    n_ctx: usize,
    count: usize,
}

impl Windows {
    /// How many there are, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The tokens of each.
    pub fn iter(&self) -> impl Iterator<Item = &[Token]> {
        self.tokens.chunks_exact(self.n_ctx).take(self.count)
    }

    /// A bar over the windows, shown on a terminal only.
    pub fn progress_bar(&self) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} windows {eta} {msg}");
        let style = style.expect("the template is sound");
        let bar =
            ProgressBar::with_draw_target(Some(self.count as u64), ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.tick();
        bar
    }
}

/// Says so when windows are longer than those that the model was trained on.
pub fn note_long_windows(model: &Evaluator, path: &Path, n_ctx: u32) {
    if n_ctx > model.n_ctx_train() {
        eprintln!(
            "note: {} was trained on {} tokens of context; windows of {n_ctx} tell little about it",
            path.display(),
            model.n_ctx_train()
        );
    }
}
