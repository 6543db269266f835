//! IQ4_NL and IQ4_XS: four bits are the number of a weight in a table.

use std::arch::x86_64::*;
use std::ops::RangeInclusive;

use super::block_32::{Block, nibbles};
use super::isa::Isa;
use super::{Kernel, broadcast_half, prefetch};
use crate::activation::Column;
use crate::types::IQ4;

/// The 32 weights whose numbers are the low halves of 16 bytes, then the high ones.
///
/// # Safety
/// The CPU has AVX2; `packed` is valid for reading 16 bytes.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn looked_up(packed: *const u8) -> __m256i {
    // SAFETY: by the caller's word; the table fills a register.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4.as_ptr().cast()));
        _mm256_shuffle_epi8(table, nibbles(packed))
    }
}

/// f16 scale, 16 bytes of two numbers each.
pub(crate) struct Iq4Nl;

impl Block for Iq4Nl {
    const BYTES: usize = 18;
    const SIGNED: bool = true;
    const COLUMNS: RangeInclusive<usize> = 1..=32;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8) -> __m256i {
        // SAFETY: the numbers begin after the scale.
        unsafe { looked_up(block.add(2)) }
    }
}

/// f16 scale, upper two bits of eight scales, their lower four, 128 bytes of two numbers each; a scale of 32 is zero.
pub(crate) struct Iq4Xs;

impl Kernel for Iq4Xs {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        let mut sums = [_mm256_setzero_ps(); N];
        for index in 0..blocks {
            // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
            unsafe {
                let block = row.add(index * 136);
                prefetch(block, 136);
                let upper = u32::from(block.add(2).cast::<u16>().read_unaligned());
                let lower = block.add(4).cast::<u32>().read_unaligned();
                let mut totals = [_mm256_setzero_si256(); N];
                for group in 0..8 {
                    let weights = looked_up(block.add(8 + group * 16));
                    let magnitude = _mm256_abs_epi8(weights);
                    let scale = lower >> (group * 4) & 15 | (upper >> (group * 2) & 3) << 4;
                    let scale = _mm256_set1_epi16(scale as i16 - 32);
                    for (n, column) in columns.iter().enumerate() {
                        let values = column.values.add(index * 256 + group * 32);
                        let values = _mm256_loadu_si256(values.cast());
                        // At most 2 * 127 * 127: it fits into 16 bits.
                        let signed = _mm256_sign_epi8(values, weights);
                        let pairs = _mm256_maddubs_epi16(magnitude, signed);
                        totals[n] = I::add_scaled(totals[n], pairs, scale);
                    }
                }
                let d = broadcast_half(block);
                for (n, column) in columns.iter().enumerate() {
                    let scale = _mm256_set1_ps(column.scales.add(index).read_unaligned());
                    let total = _mm256_cvtepi32_ps(totals[n]);
                    sums[n] = _mm256_fmadd_ps(total, _mm256_mul_ps(d, scale), sums[n]);
                }
            }
        }
        sums
    }
}
