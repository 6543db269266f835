//! Tries a model file out before it is served: llama.cpp ends its whole process at some files whose
//! metadata lies, so this is to be called in a process that may be lost.
//!
//! In: a path. Out: nothing, or why not, or the end of the process. Goes once through what serving does:
//! vocabulary, tokenizing, prefill and decode. It allocates a small context and keeps nothing.

use std::path::Path;
use std::sync::Arc;

use cloister_gguf::Gguf;

use crate::error::LoadError;
use crate::llama::{Batch, Context, ContextParams, KvType, Model, first_error};
use crate::pooling::Pooling;

/// Tokens of the context: the least that llama.cpp allocates.
const N_CTX: u32 = 256;

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

/// Loads the model at `path` mapped, tokenizes, and computes a few tokens with it.
///
/// # Errors
/// [`LoadError`] when llama.cpp refuses the file or cannot compute with it. Where it ends the process
/// instead, the reason is the last line on stderr.
pub fn rehearse(path: &Path, n_threads: usize, kv_type: KvType) -> Result<(), LoadError> {
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
    let params = ContextParams {
        n_ctx_seq: N_CTX,
        n_seq: 1,
        n_batch: 4,
        n_threads,
        kv_type,
    };
    let embeds = Pooling::of(&Gguf::open_header(path)?.metadata).embeds();
    let context = match embeds {
        true => Context::for_embeddings(model.clone(), params),
        false => Context::new(model.clone(), params),
    };
    let mut context = context.ok_or_else(|| refused(first_error()))?;
    let token = model.bos().unwrap_or(0);
    let mut batch = Batch::new(4);
    for tokens in [0..3, 3..4] {
        batch.clear();
        for pos in tokens {
            batch.push(token, pos, 0, true);
        }
        let computed = context.decode(&batch);
        computed.map_err(|error| refused(Some(format!("it cannot compute a token: {error:?}"))))?;
    }
    Ok(())
}
