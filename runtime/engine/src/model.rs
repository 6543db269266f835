//! What is known of a loaded model, and how it is loaded.

use std::path::{Path, PathBuf};

/// Facts about a loaded model that never change.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The file.
    pub path: PathBuf,
    /// The name that requests use: the file's name without `.gguf`.
    pub id: String,
    /// `general.architecture`, such as `qwen2`.
    pub architecture: String,
    /// llama.cpp's name of the quantization, such as `Q4_K - Medium`.
    pub quantization: String,
    /// Tokens of its vocabulary.
    pub n_vocab: usize,
    /// Number of weights.
    pub n_params: u64,
    /// Bytes of all weights.
    pub size: u64,
    /// Context length of the training, in tokens.
    pub n_ctx_train: u32,
    /// Tokens that one slot holds.
    pub n_ctx: u32,
    /// Number of slots.
    pub n_slots: u32,
    /// Bytes that it needs: weights, KV cache and the rest.
    pub memory: u64,
    /// Whether it was made to think before it answers: its chat template knows thoughts.
    pub thinks: bool,
}

/// The name by which requests know the model at `path`.
pub fn id_of(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
