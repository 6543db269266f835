//! A thin safe layer over the parts of llama.cpp's C API that the engine uses. Nothing outside this
//! folder is `unsafe` or names the sys crate.

mod batch;
mod context;
mod cpu;
mod huge_pages;
mod log;
mod mat_mul;
mod model;
mod repack;
mod sampler;
mod threads;
mod tokenize;
#[cfg(test)]
pub mod vocabulary;

pub use batch::Batch;
pub use context::{Context, ContextParams, DecodeError, KvType};
pub use cpu::cpu_features;
pub use log::{first_error, route_logs};
pub use mat_mul::{Inputs, MatMul, MatMulObserver};
pub use model::{Model, file_type_name};
pub use repack::repacking_pays;
pub use sampler::Sampler;

/// The version of llama-cpp-sys-2, and so of the llama.cpp in it.
pub const LLAMA_CPP: &str = "0.1.161";

/// A vocabulary index, as llama.cpp counts them: `0..n_vocab`.
pub type Token = llama_cpp_sys_2::llama_token;
/// A position in a sequence, in tokens from its start.
pub type Pos = llama_cpp_sys_2::llama_pos;
/// A sequence of the KV cache; each slot owns one.
pub type SeqId = llama_cpp_sys_2::llama_seq_id;

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_pinned_one() {
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let workspace = std::fs::read_to_string(workspace).unwrap();
        let pin = format!("llama-cpp-sys-2 = {{ version = \"={}\"", super::LLAMA_CPP);
        assert!(workspace.contains(&pin), "not {pin}");
    }
}
