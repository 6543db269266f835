//! The root of a crate of its own, which the fuzz targets in `tests/fuzz` are built on: the modules of
//! this program that read files, without ggml, whose build would have to be repeated for fuzzing.
//!
//! It must never hold code of its own.

#![allow(dead_code, missing_docs)] // for the program, which uses the rest

mod file_type;
pub mod hostile;
mod hugging_face;
mod imatrix_file;
mod inspect;
mod running;
mod source;
mod tensor_class;
mod type_mix;

/// In the place of the module that calls ggml. Opening a file calls none of it: weights are what it
/// works on, and no target reads weights.
mod ggml {
    pub fn to_f32(_: cloister_gguf::TensorType, _: &[u8], _: &mut [f32]) {
        unreachable!("weights are not read here")
    }
}
