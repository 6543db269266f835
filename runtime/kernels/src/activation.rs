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
//! Where several columns are multiplied at once, the first ones lie side by side: in fours, for dot products, four values
//! of the one, then four of the next; in pairs, for products of matrices, eight of each; and scales and sums in turn, of
//! pairs each twice. There, kernels are served with what they make of sums:
//!
//! | in place of | are |
//! | --- | --- |
//! | the sum of a block of 32, as a number | the float [`WHOLE`] plus [`Layout::zero`] times the sum |
//! | sums of 16 values, if `zero` is not 0 | their products with `-zero`, i32 |
//! | sums of 16 or 32 values else | of each column in turn the lower seven bits of as many sums as there are values in turn, then so of the next, and when these are through, likewise the upper bits, signed |
//!
//! Block lengths and rounding are those of ggml's Q8_0, Q8_1 and Q8_K, so that only the order of additions is another: of
//! blocks of 32, scales and their products with sums have half precision, but where that has no such number, beyond 65,504.

use crate::WeightType;
#[cfg(target_arch = "x86_64")]
use crate::avx512;
use crate::rounding::{WHOLE, halved, inverse, quantize};
use crate::simd::{Kernel, Simd};

/// Where the parts of one column lie, or of several side by side.
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
    /// How many columns, the first ones, lie side by side with others. In pairs all do, but a lone one: an odd last one
    /// has one beside it that is nobody's, is never written, and whose products go nowhere.
    pub side_by_side: usize,
    /// With how many of them each lies together: four, or two.
    pub together: usize,
    /// How many times a scale, and another number of four bytes, of such a column stands beside itself.
    pub times: usize,
    /// What an unpacked weight of zero stands at, for columns side by side, and with AVX-512 for some types.
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
        let together = kernel.together;
        Self {
            k,
            block_len: weight_type.block_len(),
            side_by_side: match (together, columns) {
                (1, _) | (_, ..=1) => 0,
                (2, _) => columns.next_multiple_of(2),
                _ => columns / together * together,
            },
            together,
            times: if together == 2 && columns > 1 { 2 } else { 1 },
            zero: kernel.zero,
            minimum: weight_type.format().minimum.is_some() && weight_type.block_len() == 32,
            sums_of: kernel.sums_of,
            simd: kernel.simd,
        }
    }

    /// Scales of a column, with those that fill up the last eight.
    fn scales(self) -> usize {
        (self.k / self.block_len).next_multiple_of(8) * self.times
    }

    fn sums_bytes(self) -> usize {
        if self.block_len == 32 {
            self.scales() * 4
        } else if self.zero == 0 {
            self.k / 16 * 2
        } else {
            self.k / 16 * 4 * self.times
        }
    }

    /// Bytes of so many columns; a multiple of 4.
    pub fn bytes(self, columns: usize) -> usize {
        self.column_bytes() * columns.max(self.side_by_side)
    }

    /// Bytes of one column.
    fn column_bytes(self) -> usize {
        self.k + self.scales() * 4 + self.sums_bytes()
    }

    /// The parts of column `index`, which lies alone, in a buffer that begins at `buffer`.
    #[inline(always)]
    pub fn column(self, buffer: *const u8, index: usize) -> Column {
        self.parts(buffer, index, 1)
    }

    /// The parts of the columns from `index` on that lie side by side.
    pub fn side_by_side(self, buffer: *const u8, index: usize) -> Column {
        self.parts(buffer, index, self.together)
    }

    #[inline(always)]
    fn parts(self, buffer: *const u8, index: usize, columns: usize) -> Column {
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
        let beside = index < self.side_by_side;
        let (column, together, times) = if beside {
            let first = index / self.together * self.together;
            (self.side_by_side(buffer, first), self.together, self.times)
        } else {
            (self.column(buffer, index), 1, 1)
        };
        let turn = index % together;
        let scales = column.scales.cast_mut();
        let put = |to: *mut f32, number: usize, x: f32| {
            let to = to.wrapping_add((number * together + turn) * times);
            for i in 0..times {
                // SAFETY: whoever calls it has room there for a number of each column, as often as they stand there.
                unsafe { to.add(i).write_unaligned(x) };
            }
        };
        let mut apart = [0i8; 256];
        for block in blocks.clone() {
            let at = block * self.block_len;
            // SAFETY: the block lies within `k`, by the caller's word.
            let input = unsafe { std::slice::from_raw_parts(input.add(at), self.block_len) };
            let values = if beside {
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
            // SAFETY: scales and sums have an entry for each block, by the layout; of columns side by side, there are
            // sixteen values for as many of each as come in turn.
            unsafe {
                let to = column.values.cast_mut().wrapping_add(at * together);
                match together {
                    4 => take_turns::<4>(values, to, turn),
                    2 => take_turns::<8>(values, to, turn),
                    _ => {}
                }
                let sums = column.sums.cast_mut();
                if self.block_len == 32 {
                    let scale = largest / 127.0;
                    put(scales, block, halved(scale));
                    let sum = sums_of_16[0] + sums_of_16[1];
                    let sum = if self.minimum {
                        halved(scale * sum as f32)
                    } else if beside {
                        WHOLE + (self.zero * sum) as f32
                    } else {
                        f32::from_bits(sum as u32)
                    };
                    put(sums.cast(), block, sum);
                    continue;
                }
                let scale = if largest == 0.0 {
                    0.0
                } else {
                    1.0 / inverse(largest)
                };
                put(scales, block, scale);
                if beside && self.zero != 0 {
                    for (i, sum) in sums_of_16.into_iter().enumerate() {
                        let start = f32::from_bits((-self.zero * sum) as u32);
                        put(sums.cast(), at / 16 + i, start);
                    }
                } else if beside {
                    self.keep_sums(sums_of_16, sums.add(at / 8 * together), turn);
                } else if self.zero != 0 && cfg!(target_arch = "x86_64") {
                    let to = sums.cast::<i32>().add(at / 16);
                    to.cast::<[i32; 16]>()
                        .write_unaligned(sums_of_16.map(|sum| -self.zero * sum));
                } else {
                    let of = self.sums_of / 16;
                    let to = sums.cast::<i16>().add(at / self.sums_of);
                    for (i, sums) in sums_of_16.chunks_exact(of).enumerate() {
                        to.add(i).write_unaligned(sums.iter().sum::<i32>() as i16);
                    }
                }
            }
        }
        // Of columns side by side, no more than the blocks are read.
        if blocks.end == count && !beside {
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

    /// Writes the sums of a block of 256 values of column `turn` of those side by side.
    ///
    /// # Safety
    /// `to` is where the sums of these columns' block are.
    unsafe fn keep_sums(self, sums: [i32; 16], to: *mut u8, turn: usize) {
        let (of, piece) = (self.sums_of / 16, 16 / self.together);
        for (group, parts) in sums.chunks_exact(of).enumerate() {
            let sum = parts.iter().sum::<i32>();
            // SAFETY: by the caller's word.
            unsafe {
                let to = to.add(turn * piece + group / piece * 16 + group % piece);
                to.write(sum as u8 & 127);
                to.add(16 * self.together / of).write((sum >> 7) as u8);
            }
        }
    }
}

/// Writes the values of column `turn` of those side by side, `N` at a time.
///
/// # Safety
/// `to` is where the values of these columns' block are.
unsafe fn take_turns<const N: usize>(values: &[i8], to: *mut i8, turn: usize) {
    for (i, values) in values.as_chunks::<N>().0.iter().enumerate() {
        // SAFETY: by the caller's word.
        unsafe {
            to.add(i * 16 + turn * N)
                .cast::<[i8; N]>()
                .write_unaligned(*values)
        };
    }
}
