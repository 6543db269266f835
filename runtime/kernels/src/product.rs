//! One product on the caller's own thread, as ggml's threads compute it: for tests, and to see what it costs.

use crate::WeightType;
use crate::activation::Layout;
use crate::panel::Panel;
use crate::simd::Simd;

/// Columns of floats, quantized for rows of a type.
pub struct Columns {
    bytes: Vec<u8>,
    count: usize,
    layout: Layout,
}

impl Columns {
    /// Quantizes columns of `k` floats, one behind the other.
    ///
    /// # Panics
    /// When `k` fills no whole number of blocks, or `inputs` no whole number of columns.
    pub fn quantize(weight_type: WeightType, k: usize, inputs: &[f32]) -> Self {
        weight_type.row_bytes(k);
        let inputs = inputs.chunks_exact(k);
        assert!(inputs.remainder().is_empty(), "columns have {k} floats");
        let layout = Layout {
            k,
            block_len: weight_type.block_len(),
        };
        let count = inputs.len();
        let mut bytes = vec![0; layout.column_bytes() * count];
        for (i, input) in inputs.enumerate() {
            let column = layout.column(bytes.as_mut_ptr(), i);
            // SAFETY: input and columns are as long as the layout says.
            unsafe { layout.quantize(input.as_ptr(), column, 0..k / layout.block_len) };
        }
        Self {
            bytes,
            count,
            layout,
        }
    }
}

/// Multiplies rows of weights, one behind the other, with columns; gives the products of all rows with the first
/// column, then those with the next. Nothing where the CPU has no kernels.
///
/// # Panics
/// When `columns` were quantized for another block length, or `weights` hold no whole number of rows.
pub fn multiply(weight_type: WeightType, weights: &[u8], columns: &Columns) -> Option<Vec<f32>> {
    let layout = columns.layout;
    assert_eq!(weight_type.block_len(), layout.block_len, "blocks differ");
    let weights_stride = weight_type.row_bytes(layout.k);
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
    };
    let simd = Simd::best()?;
    // SAFETY: all parts are as long as the panel says.
    unsafe { simd.multiply(weight_type, &panel) };
    Some(output)
}
