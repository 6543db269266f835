//! One product on the caller's own thread, as ggml's threads compute it: for tests, and to see what it costs.

use crate::WeightType;
use crate::activation::Layout;
use crate::panel::Panel;
use crate::simd::{Kernel, Simd};

/// Columns of floats, quantized for rows of a type.
pub struct Columns {
    bytes: Vec<u8>,
    count: usize,
    layout: Layout,
    weight_type: WeightType,
    kernel: Kernel,
}

impl Columns {
    /// Quantizes columns of `k` floats, one behind the other. Nothing where the CPU has no kernel for the type.
    ///
    /// # Panics
    /// When `k` fills no whole number of blocks, or `inputs` no whole number of columns.
    pub fn quantize(weight_type: WeightType, k: usize, inputs: &[f32]) -> Option<Self> {
        weight_type.row_bytes(k);
        let inputs = inputs.chunks_exact(k);
        assert!(inputs.remainder().is_empty(), "columns have {k} floats");
        let count = inputs.len();
        let kernel = weight_type.kernel()?;
        let layout = Layout::new(&kernel, weight_type, k, count);
        let mut bytes = vec![0; layout.bytes(count)];
        for (i, input) in inputs.enumerate() {
            let blocks = 0..k / layout.block_len;
            // SAFETY: input and columns are as long as the layout says.
            unsafe { layout.quantize(input.as_ptr(), bytes.as_mut_ptr(), i, blocks) };
        }
        Some(Self {
            bytes,
            count,
            layout,
            weight_type,
            kernel,
        })
    }
}

/// Whether a product of so many columns is computed here, and not ggml's own way.
pub fn takes(weight_type: WeightType, columns: usize) -> bool {
    let kernel = weight_type.kernel();
    kernel.is_some_and(|kernel| kernel.columns.contains(&columns))
}

/// For measuring: from now on the instruction set of this name computes, though the CPU may have a faster one. Gives
/// whether the CPU has it, and nothing was computed before.
pub fn choose(instruction_set: &str) -> bool {
    Simd::choose(instruction_set)
}

/// Multiplies rows of weights, one behind the other, with columns; gives the products of all rows with the first
/// column, then those with the next.
///
/// # Panics
/// When `weights` hold no whole number of rows.
pub fn multiply(weights: &[u8], columns: &Columns) -> Vec<f32> {
    let layout = columns.layout;
    let weights_stride = columns.weight_type.row_bytes(layout.k);
    let rows = weights.len() / weights_stride;
    assert_eq!(rows * weights_stride, weights.len(), "rows are whole");
    let mut output = vec![0.0; rows * columns.count];
    let panel = Panel {
        weights: weights.as_ptr(),
        weights_stride,
        rows,
        columns: columns.bytes.as_ptr(),
        n_columns: columns.count,
        layout,
        output: output.as_mut_ptr(),
        output_stride: rows * 4,
        picks: std::ptr::null(),
        next: std::ptr::null(),
    };
    // SAFETY: all parts are as long as the panel says.
    unsafe { (columns.kernel.multiply)(&panel) };
    output
}
