//! Runs windows of a text through a model to judge it, not to answer: every logit of every scored
//! position, and, for whoever asks, what goes into each matrix multiplication.
//!
//! In: a model file and tokens. Out: rows of logits. Weights stay mapped and as they are stored, so
//! that names and types are the file's own. It knows nothing of slots and must never sample.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloister_gguf::Gguf;

use crate::error::LoadError;
use crate::llama::{Batch, Context, ContextParams, DecodeError, KvType, Model, first_error};
pub use crate::llama::{Inputs, MatMul, MatMulObserver, Token};

/// Most tokens in one decode call. As many as llama.cpp computes together by default, so that its
/// buffers, of which the logits are the largest part, do not grow with the window.
const N_BATCH: u32 = 512;

/// Why a model could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file has no vocabulary to read a text with.
    #[error("{path}: the file has no tokenizer, so it cannot read a text")]
    NoTokenizer {
        /// The model file.
        path: PathBuf,
    },
    /// The KV cache or the compute buffers could not be allocated.
    #[error("{path}: no memory for a window of {n_ctx} tokens: {reason}; use a smaller --ctx")]
    Memory {
        /// The model file.
        path: PathBuf,
        /// Tokens that the window was to hold.
        n_ctx: u32,
        /// llama.cpp's own words, or ours.
        reason: String,
    },
    /// llama.cpp could not compute a batch.
    #[error("{path}: the model could not compute this text (llama_decode returned {code})")]
    Decode {
        /// The model file.
        path: PathBuf,
        /// llama.cpp's return code.
        code: i32,
    },
}

/// One model and a context for one window.
pub struct Evaluator {
    path: PathBuf,
    model: Arc<Model>,
    context: Context,
    batch: Batch,
    n_ctx: u32,
    /// Tokens of the window that are computed.
    n_past: usize,
}

impl Evaluator {
    /// Loads the model at `path` for windows of `n_ctx` tokens. `observer` sees what goes into each
    /// matrix multiplication.
    ///
    /// # Errors
    /// When the file is no sound model or memory does not suffice.
    pub fn load(
        path: &Path,
        n_ctx: u32,
        observer: Option<Box<dyn MatMulObserver>>,
    ) -> Result<Self, EvaluateError> {
        Self::load_to_compare(path, n_ctx, observer, crate::usable_cores(), false)
    }

    /// As [`Evaluator::load`], on `n_threads` threads; and to `repack` the weights, in ggml's interleaved layouts.
    ///
    /// # Errors
    /// As there.
    pub fn load_to_compare(
        path: &Path,
        n_ctx: u32,
        observer: Option<Box<dyn MatMulObserver>>,
        n_threads: usize,
        repack: bool,
    ) -> Result<Self, EvaluateError> {
        let file = Gguf::open(path).map_err(LoadError::from)?;
        if matches!(
            file.metadata.str("tokenizer.ggml.model"),
            None | Some("no_vocab")
        ) {
            return Err(EvaluateError::NoTokenizer { path: path.into() });
        }
        let reason = || first_error().unwrap_or_else(|| "it gave no reason".to_owned());
        let model = Model::load(path, repack).ok_or_else(|| LoadError::Unsupported {
            path: path.into(),
            reason: reason(),
        })?;
        let model = Arc::new(model);
        let params = ContextParams {
            n_ctx_seq: n_ctx,
            n_seq: 1,
            n_batch: N_BATCH.min(n_ctx),
            n_threads,
            kv_type: KvType::F16,
        };
        let context = Context::with_observer(model.clone(), params, observer).ok_or_else(|| {
            EvaluateError::Memory {
                path: path.into(),
                n_ctx,
                reason: reason(),
            }
        })?;
        Ok(Self {
            path: path.into(),
            model,
            context,
            batch: Batch::new(params.n_batch as usize),
            n_ctx,
            n_past: 0,
        })
    }

    /// Number of logits in a row.
    pub fn n_vocab(&self) -> usize {
        self.model.n_vocab() as usize
    }

    /// The context length that the model was trained for, in tokens.
    pub fn n_ctx_train(&self) -> u32 {
        self.model.n_ctx_train()
    }

    /// Most tokens that [`Evaluator::compute`] takes.
    pub fn n_batch(&self) -> usize {
        self.batch.capacity()
    }

    /// The tokens of a text, with the begin-of-sequence before it where the model wants one. Special
    /// tokens written out in the text are text like any other.
    pub fn tokenize(&self, text: &str) -> Vec<Token> {
        self.model.tokenize_plain(text, true)
    }

    /// Forgets the window before, so that [`Evaluator::compute`] begins a new one.
    pub fn begin_window(&mut self) {
        self.context.clear();
        self.n_past = 0;
    }

    /// Computes the next tokens of the window, and gives the logits after each of those whose place
    /// in the window is `scored_from` or later, `[rows, n_vocab]` row-major. The window's first token
    /// gives way to the begin-of-sequence where the model wants one.
    ///
    /// # Errors
    /// When llama.cpp cannot compute them.
    ///
    /// # Panics
    /// When there are more tokens than a batch takes or the window holds.
    pub fn compute(
        &mut self,
        tokens: &[Token],
        scored_from: usize,
    ) -> Result<&[f32], EvaluateError> {
        assert!(self.n_past + tokens.len() <= self.n_ctx as usize);
        self.batch.clear();
        for (at, &token) in (self.n_past..).zip(tokens) {
            let bos = self
                .model
                .bos()
                .filter(|_| at == 0 && self.model.adds_bos());
            self.batch
                .push(bos.unwrap_or(token), at as i32, 0, at >= scored_from);
        }
        let code = match self.context.decode(&self.batch) {
            Ok(_) => {
                self.n_past += tokens.len();
                return Ok(self.context.logits());
            }
            Err(DecodeError::Failed(code)) => code,
            Err(DecodeError::Aborted) => unreachable!("nothing aborts an evaluation"),
        };
        Err(match code {
            // What llama_decode says when it cannot allocate.
            -2 => EvaluateError::Memory {
                path: self.path.clone(),
                n_ctx: self.n_ctx,
                reason: first_error().unwrap_or_else(|| "an allocation failed".to_owned()),
            },
            code => EvaluateError::Decode {
                path: self.path.clone(),
                code,
            },
        })
    }
}
