//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use super::isa::Isa;
use super::{Kernel, prefetch};
use crate::activation::Column;

/// How a type packs its blocks. The scale comes first, as f16.
pub(crate) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether an f16 to be added to each weight follows the scale.
    const MIN: bool = false;
    /// What an unpacked weight of zero stands at.
    const ZERO: f32 = 0.0;
    /// Whether unpacked weights are signed.
    const SIGNED: bool = false;
    /// As [`Kernel::COLUMNS`].
    const COLUMNS: RangeInclusive<usize> = 1..=usize::MAX;

    /// The 32 weights: unsigned below 32, or signed.
    ///
    /// # Safety
    /// The CPU has AVX2; `block` is valid for reading `BYTES`.
    unsafe fn unpack(block: *const u8) -> __m256i;
}

/// The kernel of a [`Block`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const COLUMNS: RangeInclusive<usize> = B::COLUMNS;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        // Additions would wait for each other: every second block has sums of its own, and has them for every
        // number of columns, so that a column's product has the same bits beside any others.
        let mut sums = [_mm256_setzero_ps(); N];
        let mut odd_sums = [_mm256_setzero_ps(); N];
        // Eight blocks at a time, so that their scales fill a register.
        let mut first = 0;
        while first < blocks {
            let count = (blocks - first).min(8);
            let mut scales = [[0f32; 8]; N];
            // SAFETY: the row has `count` blocks from `first` on, and the columns have their values;
            // scales and sums of columns are filled up to eight.
            unsafe {
                let group = row.add(first * B::BYTES);
                prefetch(group, 8 * B::BYTES);
                let d = f16_of::<B>(group, count);
                let min = if B::MIN {
                    f16_of::<B>(group.add(2), count)
                } else {
                    d
                };
                for (n, column) in columns.iter().enumerate() {
                    let scale = _mm256_loadu_ps(column.scales.add(first));
                    _mm256_storeu_ps(scales[n].as_mut_ptr(), _mm256_mul_ps(d, scale));
                    if B::MIN {
                        let sum = _mm256_loadu_ps(column.sums.cast::<f32>().add(first));
                        sums[n] = _mm256_fmadd_ps(min, sum, sums[n]);
                    } else if B::ZERO != 0.0 {
                        let sum = _mm256_loadu_si256(column.sums.cast::<i32>().add(first).cast());
                        let sum = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum));
                        let zero = _mm256_mul_ps(d, _mm256_set1_ps(B::ZERO));
                        sums[n] = _mm256_fnmadd_ps(zero, sum, sums[n]);
                    }
                }
                // `i` is the block's number in three places at once.
                #[allow(clippy::needless_range_loop)]
                for i in 0..count {
                    let weights = B::unpack(group.add(i * B::BYTES));
                    let magnitude = if B::SIGNED {
                        _mm256_abs_epi8(weights)
                    } else {
                        weights
                    };
                    for (n, column) in columns.iter().enumerate() {
                        let values = column.values.add((first + i) * 32);
                        let mut values = _mm256_loadu_si256(values.cast());
                        if B::SIGNED {
                            values = _mm256_sign_epi8(values, weights);
                        }
                        let fours = I::add_fours(_mm256_setzero_si256(), magnitude, values);
                        let fours = _mm256_cvtepi32_ps(fours);
                        let scale = _mm256_set1_ps(scales[n][i]);
                        let sum = if i % 2 == 1 {
                            &mut odd_sums[n]
                        } else {
                            &mut sums[n]
                        };
                        *sum = _mm256_fmadd_ps(fours, scale, *sum);
                    }
                }
            }
            first += count;
        }
        for (sum, odd) in sums.iter_mut().zip(odd_sums) {
            *sum = _mm256_add_ps(*sum, odd);
        }
        sums
    }
}

/// The f16 at the beginning of `count` blocks, as floats; zeros after them.
///
/// # Safety
/// The CPU has AVX2 and F16C; from `first` on there are `count` blocks of `B`, at most 8.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn f16_of<B: Block>(first: *const u8, count: usize) -> __m256 {
    // SAFETY: each read is within a block.
    let read = |i: usize| unsafe { first.add(i * B::BYTES).cast::<i16>().read_unaligned() };
    let halves = if count == 8 {
        _mm_setr_epi16(
            read(0),
            read(1),
            read(2),
            read(3),
            read(4),
            read(5),
            read(6),
            read(7),
        )
    } else {
        let mut halves = [0i16; 8];
        for (i, half) in halves.iter_mut().take(count).enumerate() {
            *half = read(i);
        }
        // SAFETY: eight halves are a register's worth.
        unsafe { _mm_loadu_si128(halves.as_ptr().cast()) }
    };
    _mm256_cvtph_ps(halves)
}

/// The low halves of 16 bytes, then the high ones.
///
/// # Safety
/// The CPU has AVX2; `packed` is valid for reading 16 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn nibbles(packed: *const u8) -> __m256i {
    // SAFETY: by the caller's word.
    let packed = unsafe { _mm_loadu_si128(packed.cast()) };
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// 32 bits, each as 16 or 0.
///
/// # Safety
/// The CPU has AVX2; `packed` is valid for reading 4 bytes.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn fifth_bits(packed: *const u8) -> __m256i {
    // SAFETY: by the caller's word.
    let bits = _mm256_set1_epi32(unsafe { packed.cast::<i32>().read_unaligned() });
    let which_byte = _mm256_setr_epi64x(
        0,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let bytes = _mm256_shuffle_epi8(bits, which_byte);
    let which_bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, which_bit), which_bit);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const ZERO: f32 = 8.0;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8) -> __m256i {
        // SAFETY: the weights begin after the scale.
        unsafe { nibbles(block.add(2)) }
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8) -> __m256i {
        // SAFETY: the weights begin after scale and minimum.
        unsafe { nibbles(block.add(4)) }
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 22;
    const ZERO: f32 = 16.0;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8) -> __m256i {
        // SAFETY: bits and weights follow the scale.
        unsafe { _mm256_or_si256(nibbles(block.add(6)), fifth_bits(block.add(2))) }
    }
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const BYTES: usize = 24;
    const MIN: bool = true;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8) -> __m256i {
        // SAFETY: bits and weights follow scale and minimum.
        unsafe { _mm256_or_si256(nibbles(block.add(8)), fifth_bits(block.add(4))) }
    }
}

/// f16 scale, 32 signed bytes.
pub(crate) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 34;
    const SIGNED: bool = true;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8) -> __m256i {
        // SAFETY: the weights begin after the scale.
        unsafe { _mm256_loadu_si256(block.add(2).cast()) }
    }
}
