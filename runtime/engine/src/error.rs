//! What can go wrong, each told so that the reader knows what to do.

use std::path::{Path, PathBuf};

use crate::llama::first_error;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be opened, or is no sound GGUF.
    #[error(transparent)]
    File(#[from] cloister_gguf::Error),
    /// llama.cpp cannot run it.
    #[error("{path}: llama.cpp cannot load this model: {reason}")]
    Unsupported {
        /// The model file.
        path: PathBuf,
        /// llama.cpp's own words.
        reason: String,
    },
    /// It was tried out in another process, which said this in words for the user, or ended.
    #[error("{0}")]
    Rehearsal(String),
    /// The machine, or the process's share of it, is too small.
    #[error("{path}: no memory for this model: {reason}")]
    Memory {
        /// The model file.
        path: PathBuf,
        /// What is needed, what there is, and what would help.
        reason: String,
    },
    /// The KV cache or the compute buffers could not be allocated.
    #[error(
        "{path}: no memory for {slots} slots of {n_ctx} tokens: {reason}; use a smaller --ctx or fewer --slots"
    )]
    Context {
        /// The model file.
        path: PathBuf,
        /// Slots asked for.
        slots: u32,
        /// Tokens a slot was to hold.
        n_ctx: u32,
        /// llama.cpp's own words.
        reason: String,
    },
    /// The draft model is not one for this model.
    #[error(
        "{path}: this draft model has another vocabulary: {reason}; use one of the same family, or none"
    )]
    Draft {
        /// The file of the draft model.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// The chat template in the file does not parse.
    #[error("{path}: the chat template in the file does not parse: {reason}")]
    Template {
        /// The model file.
        path: PathBuf,
        /// The template engine's words.
        reason: String,
    },
}

impl LoadError {
    /// With llama.cpp's own reason.
    pub(crate) fn unsupported(path: &Path) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            reason: first_error().unwrap_or_else(|| "it gave no reason".to_owned()),
        }
    }
}

/// Why a text cannot be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It has more tokens than the model takes.
    #[error("it has {tokens} tokens, and the model takes {n_ctx}")]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens that the model takes.
        n_ctx: usize,
    },
    /// It has more bytes than so many tokens can be.
    #[error("it has {bytes} bytes, which are more than the {n_ctx} tokens that the model takes")]
    TooManyBytes {
        /// Bytes of the text.
        bytes: usize,
        /// Tokens that the model takes.
        n_ctx: usize,
    },
}

/// Why chat messages did not become a prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The model's template refuses them.
    #[error("the model's chat template makes no prompt of these messages: {0}")]
    Template(String),
    /// The model has no chat template.
    #[error("this model file carries no chat template, so it cannot answer chat messages")]
    NoTemplate,
    /// A thought is asked for.
    #[error("this model does not think before it answers: its chat template knows no thoughts")]
    NoThought,
    /// The prompt is too long whatever its tokens are.
    #[error(
        "this prompt has {bytes} bytes, which are {least} tokens at least; the context holds {n_ctx}"
    )]
    TooManyBytes {
        /// Bytes of the rendered prompt.
        bytes: usize,
        /// The fewest tokens that these can be.
        least: usize,
        /// Tokens that the context of one slot holds.
        n_ctx: usize,
    },
    /// A template is to be stored, and there is no place for it.
    #[error("this box stores no templates: it was started with --cache-disk 0")]
    NoStore,
    /// A template is to be stored, and there is none.
    #[error(
        "there is no template to store: no system message stands at the beginning, and there are no tools"
    )]
    EmptyTemplate,
    /// Prompt and answer do not fit the context.
    #[error(
        "this request needs {needed} tokens ({prompt} of prompt, {max_tokens} of answer), the context holds {n_ctx}"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for as answer.
        max_tokens: usize,
        /// Their sum.
        needed: usize,
        /// Tokens that the context of one slot holds.
        n_ctx: usize,
    },
}

/// Why a template is not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be a prompt's beginning.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// It cannot be read now.
    #[error(transparent)]
    Queue(#[from] QueueFull),
}

/// The queue holds as many requests as it may.
#[derive(Debug, thiserror::Error)]
#[error("{waiting} requests are waiting already; try again in a few seconds")]
pub struct QueueFull {
    /// Requests in the queue.
    pub waiting: usize,
}

/// Why a running request ended without an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GenerateError {
    /// llama.cpp could not compute the batch.
    #[error("the model could not compute this request (llama_decode returned {0})")]
    Decode(i32),
    /// The answer cannot be held to the shape that was asked for any further.
    #[error("the answer could not be held to the shape that was asked for: {0}")]
    Grammar(String),
    /// The answer would have come too late.
    #[error("the answer was not complete by the deadline of its request")]
    Deadline,
    /// What the model made of a template could not be stored.
    #[error("the template could not be stored: {0}")]
    Store(String),
    /// The privacy switch was turned on.
    #[error(
        "the privacy switch of this box is on: it takes no prompts and forgets those that waited"
    )]
    Private,
    /// There is a privacy switch, and nobody says where it stands.
    #[error(
        "this box has a privacy switch, and its panel does not say that it is off: no prompts are taken until it does"
    )]
    Unheard,
    /// The box is too hot to go on.
    #[error(
        "this box is too hot to go on: its fan or the air around it does not cool it enough; it answers again when it has cooled down"
    )]
    TooHot,
    /// Somebody at the box has stopped it.
    #[error("this answer was stopped with the button of the box")]
    StoppedByHand,
    /// The engine is being stopped.
    #[error("the model is being unloaded")]
    Stopped,
}
