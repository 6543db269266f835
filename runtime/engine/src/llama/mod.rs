//! A thin safe layer over the parts of llama.cpp's C API that the engine uses. Nothing outside this
//! folder is `unsafe` or names the sys crate.

mod batch;
mod context;
mod log;
mod mat_mul;
mod model;
mod repack;
mod sampler;

pub use batch::Batch;
pub use context::{Context, ContextParams, DecodeError, KvType};
pub use log::{first_error, print_aborts, route_logs};
pub use mat_mul::{Inputs, MatMul, MatMulObserver};
pub use model::{Model, file_type_name};
pub use repack::repacking_pays;
pub use sampler::Sampler;

/// A vocabulary index, as llama.cpp counts them: `0..n_vocab`.
pub type Token = llama_cpp_sys_2::llama_token;
/// A position in a sequence, in tokens from its start.
pub type Pos = llama_cpp_sys_2::llama_pos;
/// A sequence of the KV cache; each slot owns one.
pub type SeqId = llama_cpp_sys_2::llama_seq_id;
