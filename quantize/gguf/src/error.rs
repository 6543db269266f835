//! What can be wrong with a GGUF file. Each variant names the file, and the key or tensor and the
//! byte offset where there is one, so that its line alone is enough to act on.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file could not be read or written. Offsets and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: "open", "read", "write", ...
        action: &'static str,
        /// The operating system's own error; part of the message, so that one line tells all.
        reason: std::io::Error,
    },

    /// The file does not start with `GGUF`.
    #[error("{path}: not a GGUF file (it does not start with the bytes \"GGUF\")")]
    NotGguf {
        /// The file.
        path: PathBuf,
    },

    /// A version that this crate does not read.
    #[error("{path}: GGUF version {version} is not supported; versions 2 and 3 are")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it states.
        version: u32,
    },

    /// A big-endian file.
    #[error("{path}: a big-endian GGUF file; only little-endian ones are supported")]
    BigEndian {
        /// The file.
        path: PathBuf,
    },

    /// The file ends, or the largest header allowed does, before what the header announces.
    #[error(
        "{path}: cut short or damaged: {reading} at byte {offset} needs {wanted} bytes, but only {left} are left"
    )]
    HeaderCut {
        /// The file.
        path: PathBuf,
        /// What was being read: a key, a tensor, a count.
        reading: String,
        /// Where.
        offset: u64,
        /// Bytes that the header says follow.
        wanted: u64,
        /// Bytes that can follow.
        left: u64,
    },

    /// A count in the fixed part of the header cannot be true.
    #[error("{path}: cut short or damaged: {problem}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },

    /// A metadata entry is malformed, missing or of the wrong type.
    #[error("{path}: key {key}: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },

    /// A tensor's description is malformed.
    #[error("{path}: tensor {tensor}: {problem}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },

    /// The header is whole, but the tensor data is not all there.
    #[error(
        "{path}: cut short: the file has {file_len} bytes, but its tensors need {needed} (the first that is not whole is {tensor}); download or copy it again"
    )]
    DataCut {
        /// The file.
        path: PathBuf,
        /// The first tensor, in file order, that is not whole.
        tensor: String,
        /// Bytes that a whole file would have at least.
        needed: u64,
        /// Bytes that the file has.
        file_len: u64,
    },

    /// A partial file cannot be gone on with.
    #[error("{path}: cannot be resumed: {problem}; without --resume it is begun anew")]
    Resume {
        /// The partial file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },

    /// Another process writes the same file.
    #[error("{path}: another conversion is writing it; wait for it or name another file")]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
}

impl Error {
    /// Makes the operating system's refusal to `action` the file `path` an error.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |reason| Error::Io {
            path,
            action,
            reason,
        }
    }
}
