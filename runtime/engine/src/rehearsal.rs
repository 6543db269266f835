//! Tries a model file out before it is served: llama.cpp ends its whole process at some files whose
//! metadata lies, so this is to be called in a process that may be lost.
//!
//! In: a path, and the context to be. Out: nothing, or why not, or the end of the process. Goes once through what serving
//! does: vocabulary, tokenizing, prefill and decode. It keeps nothing.

use std::path::Path;
use std::sync::Arc;

use crate::error::LoadError;
use crate::llama::{Batch, Context, ContextParams, KvType, Model, first_error};

/// What a file is tried out for: the context that it is to be served with. Some lies show in that one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Tokens of a slot.
    pub n_ctx: u32,
    /// Slots.
    pub n_slots: u32,
    /// Most tokens of a batch.
    pub n_batch: u32,
    /// Most tokens of a batch whose logits are asked for; `None` where texts are embedded.
    pub n_outputs: Option<u32>,
    /// Threads.
    pub n_threads: u32,
    /// Element type of the KV cache.
    pub kv_type: KvType,
}

impl Trial {
    pub(crate) fn of(params: ContextParams, n_outputs: Option<u32>) -> Self {
        Self {
            n_ctx: params.n_ctx_seq,
            n_slots: params.n_seq,
            n_batch: params.n_batch,
            n_outputs,
            n_threads: params.n_threads as u32,
            kv_type: params.kv_type,
        }
    }

    fn params(self) -> ContextParams {
        ContextParams {
            n_ctx_seq: self.n_ctx,
            n_seq: self.n_slots,
            n_batch: self.n_batch,
            n_threads: self.n_threads as usize,
            kv_type: self.kv_type,
        }
    }
}

/// Every byte that can start or continue a UTF-8 character is in it, so that a vocabulary which lacks
/// one shows that here.
fn every_byte() -> String {
    let two_bytes = (0..0x800).filter_map(char::from_u32);
    let three = (0x800..0x1_0000).step_by(0x800);
    let four = (0x1_0000..0x11_0000).step_by(0x1_0000);
    two_bytes
        .chain(three.chain(four).filter_map(char::from_u32))
        .collect()
}

/// Loads the model at `path` mapped, tokenizes, and computes a few tokens in the context of `trial`.
///
/// # Errors
/// [`LoadError`] when llama.cpp refuses the file or cannot compute with it. Where it ends the process
/// instead, the reason is the last line on stderr.
pub fn rehearse(path: &Path, trial: Trial) -> Result<(), LoadError> {
    let refused = |reason: Option<String>| LoadError::Unsupported {
        path: path.to_owned(),
        reason: reason.unwrap_or_else(|| "it gave no reason".to_owned()),
    };
    let model = Arc::new(Model::load(path, false).ok_or_else(|| refused(first_error()))?);
    model.tokenize(&every_byte(), model.adds_bos());
    for token in 0..model.n_vocab() {
        model.piece(token, true);
        model.token_text(token);
    }
    let context = match trial.n_outputs {
        None => Context::for_embeddings(model.clone(), trial.params()),
        Some(n_outputs) => Context::for_slots(model.clone(), trial.params(), n_outputs),
    };
    let mut context = context.ok_or_else(|| refused(first_error()))?;
    let token = model.bos().unwrap_or(0);
    let mut batch = Batch::new(4);
    let many = trial.n_batch.min(3) as i32;
    for tokens in [0..many, many..many + 1] {
        batch.clear();
        let last = tokens.end - 1;
        for pos in tokens {
            batch.push(token, pos, 0, pos == last || trial.n_outputs.is_none());
        }
        let computed = context.decode(&batch);
        computed.map_err(|error| refused(Some(format!("it cannot compute a token: {error:?}"))))?;
    }
    Ok(())
}
