//! Q4_K and Q5_K: 256 weights in eight groups, each with a six-bit scale and minimum.

use std::arch::x86_64::*;

use super::isa::Isa;
use super::{Kernel, prefetch};
use crate::activation::Column;

/// f16 scale, f16 minimum, 12 bytes of scales and minimums, 128 bytes of two weights each.
pub(crate) struct Q4K;

/// As [`Q4K`], with 32 bytes of fifth bits, bit `g` for group `g`, before the weights.
pub(crate) struct Q5K;

impl Kernel for Q4K {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        // SAFETY: as the caller says.
        unsafe { dot::<I, N, false>(row, blocks, columns) }
    }
}

impl Kernel for Q5K {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        // SAFETY: as the caller says.
        unsafe { dot::<I, N, true>(row, blocks, columns) }
    }
}

/// # Safety
/// As [`Kernel::dot`], of Q5_K if `FIVE`, otherwise of Q4_K.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dot<I: Isa, const N: usize, const FIVE: bool>(
    row: *const u8,
    blocks: usize,
    columns: &[Column; N],
) -> [__m256; N] {
    let nibble = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_ps(); N];
    for index in 0..blocks {
        // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
        unsafe {
            let block = row.add(index * if FIVE { 176 } else { 144 });
            prefetch(block, if FIVE { 176 } else { 144 });
            let low = block.add(if FIVE { 48 } else { 16 });
            let fifth = if FIVE {
                _mm256_loadu_si256(block.add(16).cast())
            } else {
                _mm256_setzero_si256()
            };
            let d = _mm_cvtph_ps(_mm_cvtsi32_si128(block.cast::<i32>().read_unaligned()));
            let (scales, mins) = scales_and_mins(block.add(4));

            let mut totals = [_mm256_setzero_si256(); N];
            for pair in 0..4 {
                let packed = _mm256_loadu_si256(low.add(pair * 32).cast());
                let mut weights = [
                    _mm256_and_si256(packed, nibble),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble),
                ];
                for (half, weights) in weights.iter_mut().enumerate() {
                    let group = pair * 2 + half;
                    if FIVE {
                        let bit = _mm256_set1_epi8((1u8 << group) as i8);
                        let set = _mm256_cmpeq_epi8(_mm256_and_si256(fifth, bit), bit);
                        let sixteen = _mm256_and_si256(set, _mm256_set1_epi8(16));
                        *weights = _mm256_or_si256(*weights, sixteen);
                    }
                    let which = _mm256_set1_epi16((((group * 2 + 1) << 8) | (group * 2)) as i16);
                    let scale = _mm256_shuffle_epi8(scales, which);
                    for (n, column) in columns.iter().enumerate() {
                        let values = column.values.add(index * 256 + group * 32);
                        let values = _mm256_loadu_si256(values.cast());
                        let pairs = _mm256_maddubs_epi16(*weights, values);
                        totals[n] = I::add_scaled(totals[n], pairs, scale);
                    }
                }
            }
            let min = _mm256_broadcastss_ps(_mm_movehdup_ps(d));
            let d = _mm256_broadcastss_ps(d);
            for (n, column) in columns.iter().enumerate() {
                let scale = _mm256_set1_ps(column.scales.add(index).read_unaligned());
                let value_sums = column.sums.cast::<i16>().add(index * 16);
                let value_sums = _mm256_loadu_si256(value_sums.cast());
                let below = _mm256_cvtepi32_ps(_mm256_madd_epi16(value_sums, mins));
                let total = _mm256_cvtepi32_ps(totals[n]);
                sums[n] = _mm256_fmadd_ps(total, _mm256_mul_ps(d, scale), sums[n]);
                sums[n] = _mm256_fnmadd_ps(below, _mm256_mul_ps(min, scale), sums[n]);
            }
        }
    }
    sums
}

/// The eight scales as 16-bit numbers, the same in both halves; and the eight minimums as 16-bit numbers,
/// each twice, one for each sum of 16 values.
///
/// # Safety
/// The CPU has AVX2; `packed` is valid for reading 12 bytes.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn scales_and_mins(packed: *const u8) -> (__m256i, __m256i) {
    // SAFETY: by the caller's word.
    let word = |i: usize| unsafe { packed.cast::<u32>().add(i).read_unaligned() };
    let (a, b, c) = (word(0), word(1), word(2));
    let (six, four, two) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x0303_0303);
    let scales = [a & six, c & four | (a >> 6 & two) << 4];
    let mins = [b & six, c >> 4 & four | (b >> 6 & two) << 4];
    let wide = |[low, high]: [u32; 2]| {
        _mm_cvtepu8_epi16(_mm_cvtsi64_si128(
            (u64::from(high) << 32 | u64::from(low)) as i64,
        ))
    };
    let scales = wide(scales);
    let mins = wide(mins);
    (
        _mm256_set_m128i(scales, scales),
        _mm256_set_m128i(
            _mm_unpackhi_epi16(mins, mins),
            _mm_unpacklo_epi16(mins, mins),
        ),
    )
}
