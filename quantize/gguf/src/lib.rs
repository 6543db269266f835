//! Reads, checks and writes GGUF files, the container of ggml's models.
//!
//! In: a path. Out: a [`Gguf`] (metadata, tensor infos and a way to read tensor bytes), or, with
//! [`Writer`], a new file that carries its final name only once it is whole and on disk.
//!
//! Nothing in a file is trusted: every count, length, offset, alignment and dimension is checked
//! against the file before it is used, and no more memory is asked for than the file could fill.
//! This crate must never compute with weights and never panic on what a file says.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod error;
mod memory;
mod read;
mod tensor;
mod tensor_type;
mod value;
mod write;

pub use error::{Error, Result};
pub use memory::{ContextShape, KvCacheType, MemoryError, MemoryNeed, memory_need};
pub use read::{Gguf, MAX_HEADER_BYTES};
pub use tensor::TensorInfo;
pub use tensor_type::TensorType;
pub use value::{Array, Metadata, StringArray, Value};
pub use write::{Identity, Writer, file_size, partial_path};

/// The alignment of tensor data, in bytes, of a file without `general.alignment`.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
