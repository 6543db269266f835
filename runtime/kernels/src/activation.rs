//! Activations, quantized to 8 bits: what the kernels multiply weights with.
//!
//! In: columns of `k` floats. Out, in a buffer that ggml provides, for each column one after the other:
//!
//! | part | type | length | for |
//! | --- | --- | --- | --- |
//! | values, -127 to 127 | i8 | k | all |
//! | scale of a block | f32 | a block of 32 or 256 values each, filled up with zeros to 8 | all |
//! | sum of the values | i32 | as above | blocks of 32 |
//! | sum of 16 values | i16 | k / 16 | blocks of 256 |
//!
//! Block lengths and rounding are those of ggml's Q8_0 and Q8_K, except that scales stay f32.

/// Where one column's parts lie.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub values: *const i8,
    pub scales: *const f32,
    /// Of blocks of 32: `i32`; of blocks of 256: `i16`.
    pub sums: *const u8,
}

/// The layout of the quantized columns of one product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub k: usize,
    pub block_len: usize,
}

impl Layout {
    /// Scales of a column, with those that fill up the last eight.
    fn scales(self) -> usize {
        (self.k / self.block_len).next_multiple_of(8)
    }

    fn sums_bytes(self) -> usize {
        if self.block_len == 32 {
            self.scales() * 4
        } else {
            self.k / 16 * 2
        }
    }

    /// Bytes of one column; a multiple of 4.
    pub fn column_bytes(self) -> usize {
        self.k + self.scales() * 4 + self.sums_bytes()
    }

    /// The parts of column `index` in a buffer that begins at `buffer`.
    pub fn column(self, buffer: *const u8, index: usize) -> Column {
        let values = buffer.wrapping_add(index * self.column_bytes());
        let scales = values.wrapping_add(self.k);
        Column {
            values: values.cast(),
            scales: scales.cast(),
            sums: scales.wrapping_add(self.scales() * 4),
        }
    }

    /// Quantizes the blocks `blocks` of one column.
    ///
    /// # Safety
    /// `input` is valid for reading `k` floats and `column`, one of [`Layout::column`]'s, for writing;
    /// nobody else touches these blocks, nor, if the last block is among them, what fills up after it.
    pub unsafe fn quantize(
        self,
        input: *const f32,
        column: Column,
        blocks: std::ops::Range<usize>,
    ) {
        let count = self.k / self.block_len;
        let scales = column.scales.cast_mut();
        for block in blocks.clone() {
            let at = block * self.block_len;
            // SAFETY: the block lies within `k`, by the caller's word.
            let (input, values) = unsafe {
                (
                    std::slice::from_raw_parts(input.add(at), self.block_len),
                    std::slice::from_raw_parts_mut(
                        column.values.cast_mut().add(at),
                        self.block_len,
                    ),
                )
            };
            let largest = largest_magnitude(input);
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 127.0 / largest } else { 0.0 };
            for (value, x) in values.iter_mut().zip(input) {
                *value = rounded(x * inverse);
            }
            // SAFETY: scales and sums have an entry for each block, by the layout.
            unsafe {
                scales.add(block).write_unaligned(scale);
                if self.block_len == 32 {
                    let sum: i32 = values.iter().map(|v| i32::from(*v)).sum();
                    column
                        .sums
                        .cast_mut()
                        .cast::<i32>()
                        .add(block)
                        .write_unaligned(sum);
                } else {
                    let sums = column.sums.cast_mut().cast::<i16>().add(at / 16);
                    for (i, part) in values.chunks_exact(16).enumerate() {
                        sums.add(i)
                            .write_unaligned(part.iter().map(|v| i16::from(*v)).sum());
                    }
                }
            }
        }
        if blocks.end == count {
            for padding in count..self.scales() {
                // SAFETY: the layout has room for them.
                unsafe {
                    scales.add(padding).write_unaligned(0.0);
                    if self.block_len == 32 {
                        let sums = column.sums.cast_mut().cast::<i32>();
                        sums.add(padding).write_unaligned(0);
                    }
                }
            }
        }
    }
}

/// Zero where there is no number. Eight maxima side by side, so that the compiler may use a register of them.
fn largest_magnitude(input: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [0.0f32; 8];
    for chunk in input.chunks_exact(8) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(x.abs(), *lane);
        }
    }
    lanes.into_iter().fold(0.0, larger)
}

/// The nearest whole number, ties to even, of a number between -128 and 127; 0 of a NaN.
///
/// Where 1.5 times 2 to the 23rd is added, no bits remain for a fraction, and the low ones are the number.
fn rounded(x: f32) -> i8 {
    let x = if x.is_nan() { 0.0 } else { x };
    (x + 12_582_912.0).to_bits() as i8
}
