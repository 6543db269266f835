//! Q6_K: 256 weights in sixteen groups, each with a signed 8-bit scale.

use std::arch::x86_64::*;

use super::{Kernel, prefetch};
use crate::activation::Column;

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(super) struct Q6K;

impl Kernel for Q6K {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        let nibble = _mm256_set1_epi8(15);
        let two_bits = _mm256_set1_epi8(0x30);
        let mut sums = [_mm256_setzero_ps(); N];
        for index in 0..blocks {
            // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
            unsafe {
                let block = row.add(index * 210);
                prefetch::<N>(block, 210);
                let scales = _mm_loadu_si128(block.add(192).cast());
                let d = block.add(208).cast::<u16>().read_unaligned();
                let d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(d))));

                let mut totals = [_mm256_setzero_si256(); N];
                for half in 0..2 {
                    let low = block.add(half * 64);
                    let low = [
                        _mm256_loadu_si256(low.cast()),
                        _mm256_loadu_si256(low.add(32).cast()),
                    ];
                    let high = _mm256_loadu_si256(block.add(128 + half * 32).cast());
                    let high = [
                        _mm256_slli_epi16::<4>(high),
                        _mm256_slli_epi16::<2>(high),
                        high,
                        _mm256_srli_epi16::<2>(high),
                    ];
                    for (quarter, high) in high.into_iter().enumerate() {
                        let mut weights = low[quarter % 2];
                        if quarter >= 2 {
                            weights = _mm256_srli_epi16::<4>(weights);
                        }
                        let weights = _mm256_or_si256(
                            _mm256_and_si256(weights, nibble),
                            _mm256_and_si256(high, two_bits),
                        );
                        let group = (half * 8 + quarter * 2) as i64;
                        let repeat = 0x0101_0101_0101_0101;
                        let which = _mm_set_epi64x((group + 1) * repeat, group * repeat);
                        let scale = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, which));
                        let at = index * 256 + half * 128 + quarter * 32;
                        for (n, column) in columns.iter().enumerate() {
                            let values = _mm256_loadu_si256(column.values.add(at).cast());
                            let pairs = _mm256_maddubs_epi16(weights, values);
                            let fours = _mm256_madd_epi16(pairs, scale);
                            totals[n] = _mm256_add_epi32(totals[n], fours);
                        }
                    }
                }
                let scales = _mm256_cvtepi8_epi16(scales);
                for (n, column) in columns.iter().enumerate() {
                    let value_sums = column.sums.cast::<i16>().add(index * 16);
                    let value_sums = _mm256_loadu_si256(value_sums.cast());
                    let zero = _mm256_madd_epi16(value_sums, scales);
                    let total = _mm256_sub_epi32(totals[n], _mm256_slli_epi32::<5>(zero));
                    let scale = _mm256_set1_ps(column.scales.add(index).read_unaligned());
                    let total = _mm256_cvtepi32_ps(total);
                    sums[n] = _mm256_fmadd_ps(total, _mm256_mul_ps(d, scale), sums[n]);
                }
            }
        }
        sums
    }
}
