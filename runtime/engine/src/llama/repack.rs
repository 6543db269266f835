//! Whether copying the weights into ggml's interleaved layout pays for a file.

use cloister_gguf::{Gguf, TensorType};

/// Whether most of the file's weights are of a type for which ggml's interleaved layout is faster on
/// this CPU than the layout in the file. The kernels must have been turned on or off before.
///
/// Measured (`tests/bench`): for Q4_0, without AVX-512, prefill gains a third and decode loses nothing. The
/// other types have no such layout on every CPU, or prefill loses by it, and stay mapped.
pub fn repacking_pays(file: &Gguf) -> bool {
    if cloister_kernels::need_no_interleaving() {
        return false;
    }
    let bytes = |tensors: &mut dyn Iterator<Item = u64>| tensors.sum::<u64>();
    let q4_0 = bytes(
        &mut file
            .tensors
            .iter()
            .filter(|t| t.tensor_type == TensorType::Q4_0)
            .map(|t| t.bytes()),
    );
    let all = bytes(&mut file.tensors.iter().map(|t| t.bytes()));
    q4_0 > all / 2
}
