//! Whether a model makes vectors of texts, as its file says: by `{architecture}.pooling_type`, which converters write
//! for models that were trained to embed, and which Ollama goes by. Any model could be pooled, but the vectors of
//! those that were trained to answer are of little use.

use cloister_gguf::Metadata;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// They do not: the model answers.
    #[default]
    None,
    /// Their mean.
    Mean,
    /// The first one's, a token made for that.
    Cls,
    /// The last one's.
    Last,
    /// By a classifier: the model ranks texts and does not embed.
    Rank,
}

impl Pooling {
    /// What the header says; llama.cpp's numbers.
    pub fn of(metadata: &Metadata) -> Self {
        let architecture = metadata.str("general.architecture").unwrap_or_default();
        match metadata.u64(&format!("{architecture}.pooling_type")) {
            Some(1) => Self::Mean,
            Some(2) => Self::Cls,
            Some(3) => Self::Last,
            Some(4) => Self::Rank,
            _ => Self::None,
        }
    }

    /// Whether it makes vectors.
    pub fn embeds(self) -> bool {
        matches!(self, Self::Mean | Self::Cls | Self::Last)
    }
}
