//! Activations, quantized to 8 bits: what the kernels multiply weights with.
//!
//! In: columns of `k` floats. Out, in a buffer that ggml provides, for each column one after the other:
//!
//! | part | type | length | for |
//! | --- | --- | --- | --- |
//! | values, -127 to 127 | i8 | k | all |
//! | scale of a block | f32 | a block of 32 or 256 values each, filled up with zeros to 8 | all |
//! | sum of the values | i32 | as above | blocks of 32 |
//! | instead of it, the sum times the scale | f32 | as above | blocks of 32, weights with a minimum |
//! | sum of 16 values | i16 | k / 16 | blocks of 256 |
//!
//! Instead of the last, AVX-512 and arm64 have for some types the sums of 32 values ([`Layout::sums_of`]), or AVX-512 of 16
//! values the product of their sum with `-zero`, i32, if [`Layout::zero`] is not 0.
//!
//! Where dot products multiply four columns at once, the first columns lie side by side in fours: four values of the
//! one, then four of the next; and scales and sums in turn. There, kernels are served with what they make of sums:
//!
//! | in place of | are |
//! | --- | --- |
//! | the sum of a block of 32, as a number | the float [`WHOLE`] plus [`Layout::zero`] times the sum |
//! | sums of 16 values, if `zero` is not 0 | their products with `-zero`, i32 |
//! | sums of 16 or 32 values else | of each column in turn the lower seven bits of four sums, then so of the next four, and when these are through, likewise the upper bits, signed |
//!
//! Block lengths and rounding are those of ggml's Q8_0, Q8_1 and Q8_K, so that only the order of additions is another: of
//! blocks of 32, scales and their products with sums have half precision, but where that has no such number, beyond 65,504.

use crate::WeightType;
#[cfg(target_arch = "x86_64")]
use crate::avx512;
use crate::simd::{Kernel, Simd};

/// 1.5 times 2 to the 23rd. Whole numbers within 2 to the 22nd may be added to its bits, or to itself, to the same effect.
pub(crate) const WHOLE: f32 = 12_582_912.0;

/// Where the parts of one column lie, or of four side by side.
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
    /// How many columns, the first ones, lie side by side in fours.
    pub in_fours: usize,
    /// What an unpacked weight of zero stands at, for columns in fours, and with AVX-512 for some types.
    pub zero: i32,
    /// Whether a minimum is added to each weight of a block of 32.
    pub minimum: bool,
    /// How many values are summed up: 16, or 32 with AVX-512 and on arm64 for some types. Of blocks of 32, all are.
    pub sums_of: usize,
    pub simd: Simd,
}

impl Layout {
    /// The layout of `columns` columns of `k` values, to be multiplied with weights of this type by its `kernel`.
    pub fn new(kernel: &Kernel, weight_type: WeightType, k: usize, columns: usize) -> Self {
        Self {
            k,
            block_len: weight_type.block_len(),
            in_fours: if kernel.fours { columns / 4 * 4 } else { 0 },
            zero: kernel.zero,
            minimum: weight_type.format().minimum.is_some() && weight_type.block_len() == 32,
            sums_of: kernel.sums_of,
            simd: kernel.simd,
        }
    }

    /// Scales of a column, with those that fill up the last eight.
    fn scales(self) -> usize {
        (self.k / self.block_len).next_multiple_of(8)
    }

    fn sums_bytes(self) -> usize {
        if self.block_len == 32 {
            self.scales() * 4
        } else {
            self.k / 16 * if self.zero == 0 { 2 } else { 4 }
        }
    }

    /// Bytes of one column; a multiple of 4.
    pub fn column_bytes(self) -> usize {
        self.k + self.scales() * 4 + self.sums_bytes()
    }

    /// The parts of column `index`, which lies alone, in a buffer that begins at `buffer`.
    #[inline(always)]
    pub fn column(self, buffer: *const u8, index: usize) -> Column {
        self.side_by_side(buffer, index, 1)
    }

    /// The parts of the four columns from `index` on, which lie side by side.
    pub fn four(self, buffer: *const u8, index: usize) -> Column {
        self.side_by_side(buffer, index, 4)
    }

    #[inline(always)]
    fn side_by_side(self, buffer: *const u8, index: usize, columns: usize) -> Column {
        let values = buffer.wrapping_add(index * self.column_bytes());
        let scales = values.wrapping_add(self.k * columns);
        Column {
            values: values.cast(),
            scales: scales.cast(),
            sums: scales.wrapping_add(self.scales() * 4 * columns),
        }
    }

    /// Quantizes the blocks `blocks` of column `index`.
    ///
    /// # Safety
    /// `input` is valid for reading `k` floats, and `buffer` for writing as many columns as there are;
    /// nobody else touches these blocks, nor, if the last block is among them, what fills up after it.
    pub unsafe fn quantize(
        self,
        input: *const f32,
        buffer: *mut u8,
        index: usize,
        blocks: std::ops::Range<usize>,
    ) {
        let count = self.k / self.block_len;
        let fours = index < self.in_fours;
        let (column, step, turn) = if fours {
            (self.four(buffer, index / 4 * 4), 4, index % 4)
        } else {
            (self.column(buffer, index), 1, 0)
        };
        let scales = column.scales.cast_mut();
        let mut apart = [0i8; 256];
        for block in blocks.clone() {
            let at = block * self.block_len;
            // SAFETY: the block lies within `k`, by the caller's word.
            let input = unsafe { std::slice::from_raw_parts(input.add(at), self.block_len) };
            let values = if fours {
                &mut apart[..self.block_len]
            } else {
                // SAFETY: so does the block of values.
                unsafe {
                    std::slice::from_raw_parts_mut(column.values.cast_mut().add(at), self.block_len)
                }
            };
            let (largest, sums_of_16) = match self.simd {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the CPU has it, or there would be no such layout; there are as many values.
                Simd::Avx512 => unsafe { avx512::quantize(input, values.as_mut_ptr()) },
                _ => quantize(input, values),
            };
            // SAFETY: scales and sums have an entry for each block, by the layout; and of values in fours, there are
            // four times four from each fourth on.
            unsafe {
                if fours {
                    let to = column.values.cast_mut().add(at * 4 + turn * 4);
                    for (i, four) in values.chunks_exact(4).enumerate() {
                        to.add(i * 16).copy_from_nonoverlapping(four.as_ptr(), 4);
                    }
                }
                let scales = scales.add(block * step + turn);
                if self.block_len == 32 {
                    let scale = largest / 127.0;
                    scales.write_unaligned(halved(scale));
                    let mut sum = sums_of_16[0] + sums_of_16[1];
                    if self.minimum {
                        sum = halved(scale * sum as f32).to_bits() as i32;
                    } else if fours {
                        sum = (WHOLE + (self.zero * sum) as f32).to_bits() as i32;
                    }
                    let sums = column.sums.cast_mut().cast::<i32>();
                    sums.add(block * step + turn).write_unaligned(sum);
                    continue;
                }
                scales.write_unaligned(if largest > 0.0 {
                    1.0 / inverse(largest)
                } else {
                    0.0
                });
                if fours {
                    let to = at * self.sums_bytes() * 4 / self.k;
                    let to = column.sums.cast_mut().wrapping_add(to);
                    self.keep_sums(sums_of_16, to, turn);
                } else if self.zero != 0 && cfg!(target_arch = "x86_64") {
                    let to = column.sums.cast_mut().cast::<i32>().add(at / 16);
                    to.cast::<[i32; 16]>()
                        .write_unaligned(sums_of_16.map(|sum| -self.zero * sum));
                } else {
                    let of = self.sums_of / 16;
                    let to = column.sums.cast_mut().cast::<i16>().add(at / self.sums_of);
                    for (i, sums) in sums_of_16.chunks_exact(of).enumerate() {
                        to.add(i).write_unaligned(sums.iter().sum::<i32>() as i16);
                    }
                }
            }
        }
        // Of columns in fours, no more than the blocks are read.
        if blocks.end == count && !fours {
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

    /// Writes the sums of a block of 256 values of column `turn` of four.
    ///
    /// # Safety
    /// `to` is where the sums of the four columns' block are.
    unsafe fn keep_sums(self, sums: [i32; 16], to: *mut u8, turn: usize) {
        // SAFETY: by the caller's word.
        unsafe {
            if self.zero != 0 {
                for (i, sum) in sums.into_iter().enumerate() {
                    let start = -self.zero * sum;
                    to.cast::<i32>().add(i * 4 + turn).write_unaligned(start);
                }
                return;
            }
            let of = self.sums_of / 16;
            for (group, parts) in sums.chunks_exact(of).enumerate() {
                let (sum, to) = (
                    parts.iter().sum::<i32>(),
                    to.add(turn * 4 + group / 4 * 16 + group % 4),
                );
                to.write(sum as u8 & 127);
                to.add(64 / of).write((sum >> 7) as u8);
            }
        }
    }
}

/// What values of a block are multiplied with whose largest magnitude this is.
pub(crate) fn inverse(largest: f32) -> f32 {
    if largest > 0.0 { 127.0 / largest } else { 0.0 }
}

/// Rounded to half precision, ties to even; but as it is beyond its largest number.
pub(crate) fn halved(x: f32) -> f32 {
    let (magnitude, bits) = (x.abs(), x.to_bits());
    if magnitude < 6.103_515_6e-5 {
        // Below 2 to the -14th, half precision counts in steps of what 0.5 has as its last place.
        ((magnitude + 0.5) - 0.5).copysign(x)
    } else if magnitude < 65520.0 {
        f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff)
    } else {
        x
    }
}

/// Quantizes a block; gives the largest magnitude, and of each 16 values, the sum.
fn quantize(input: &[f32], values: &mut [i8]) -> (f32, [i32; 16]) {
    let largest = largest_magnitude(input);
    let inverse = inverse(largest);
    for (value, x) in values.iter_mut().zip(input) {
        *value = rounded(x * inverse);
    }
    let mut sums = [0; 16];
    for (sum, values) in sums.iter_mut().zip(values.chunks_exact(16)) {
        *sum = values.iter().map(|v| i32::from(*v)).sum();
    }
    (largest, sums)
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
/// Where [`WHOLE`] is added, no bits remain for a fraction, and the low ones are the number.
fn rounded(x: f32) -> i8 {
    let x = if x.is_nan() { 0.0 } else { x };
    (x + WHOLE).to_bits() as i8
}
