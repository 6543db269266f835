//! Q6_K: sixteen groups of weights of six bits.

use std::arch::x86_64::*;

use super::ahead::InOrder;
use super::k_quant::{Of, SuperBlock};
use super::lone::totals;
use super::scales::unpack_signed_scales;
use super::tile::{Rows, Tile, floats};

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(crate) struct SixBit;

pub(crate) type Q6K = Of<SixBit>;

impl SuperBlock for SixBit {
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const ZERO: i32 = 32;
    const PARTS: usize = 8;
    const ORDER: Option<[usize; 16]> = Some([0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);

    type Shared = [[__m512i; 4]; 4];
    type Part = [__m512i; 4];

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn shared(rows: &Rows, at: usize) -> [[__m512i; 4]; 4] {
        let mut high = [[_mm512_setzero_si512(); 4]; 4];
        for (i, high) in high.iter_mut().enumerate() {
            // SAFETY: the upper bits are within the block.
            *high = unsafe { rows.load(at + 128 + i * 16) };
        }
        high
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn part(rows: &Rows, at: usize, part: usize) -> [__m512i; 4] {
        // SAFETY: the low halves are within the block.
        unsafe { rows.load(at + part * 16) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn weights(
        high: &[[__m512i; 4]; 4],
        low: &[__m512i; 4],
        part: usize,
        i: usize,
        four: usize,
    ) -> __m512i {
        // Of a byte, bits 0 and 1 belong to the first quarter of the half, the next two to the second, and so on.
        let high = high[part / 4 * 2 + part % 2][four];
        let up = _mm512_set1_epi32(4 - (part as i32 / 2 % 2 * 2 + i as i32 * 4));
        let high = _mm512_rolv_epi32(high, up);
        let mut low = low[four];
        if i == 1 {
            low = _mm512_srli_epi32::<4>(low);
        }
        _mm512_or_si512(
            _mm512_and_si512(low, _mm512_set1_epi8(15)),
            _mm512_and_si512(high, _mm512_set1_epi8(0x30)),
        )
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let scale = floats(rows.halves(at + 208));
            for (i, scales) in rows.load(at + 192).into_iter().enumerate() {
                unpack_signed_scales(scales, scale, tile, index, i);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn totals(
        rows: &Rows,
        ahead: &mut InOrder,
        at: usize,
        values: *const i8,
    ) -> [__m512i; 16] {
        let nibble = _mm512_set1_epi8(15);
        let two_bits = _mm512_set1_epi8(0x30);
        // SAFETY: they are within the 256 values.
        let values = unsafe { values.cast::<[__m512i; 4]>().read_unaligned() };
        // Bits 0 and 1 belong to the first 32 weights, the next two to the next 32, and so on.
        let up = _mm512_inserti64x4::<1>(_mm512_set1_epi16(4), _mm256_set1_epi16(2));
        let down = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(2));
        let groups = totals(rows, ahead, at, Self::BYTES, |block| {
            let mut sums = [_mm512_setzero_si512(); 4];
            for half in 0..2 {
                // SAFETY: the weights are within the block.
                unsafe {
                    let low = _mm512_loadu_si512(block.add(half * 64).cast());
                    let high = _mm256_loadu_si256(block.add(128 + half * 32).cast());
                    let high = _mm512_broadcast_i64x4(high);
                    let pairs = [
                        (low, _mm512_sllv_epi16(high, up)),
                        (_mm512_srli_epi32::<4>(low), _mm512_srlv_epi16(high, down)),
                    ];
                    for (i, (low, high)) in pairs.into_iter().enumerate() {
                        let weights = _mm512_or_si512(
                            _mm512_and_si512(low, nibble),
                            _mm512_and_si512(high, two_bits),
                        );
                        let zero = _mm512_setzero_si512();
                        sums[half * 2 + i] =
                            _mm512_dpbusd_epi32(zero, weights, values[half * 2 + i]);
                    }
                }
            }
            sums
        });
        let mut all = [_mm512_setzero_si512(); 16];
        for (all, groups) in all.chunks_exact_mut(4).zip(&groups) {
            all.copy_from_slice(groups);
        }
        all
    }
}
