//! Q2_K and Q3_K: sixteen groups of weights of two bits, those of Q3_K with a third.

use std::arch::x86_64::*;

use super::ahead::InOrder;
use super::k_quant::{Of, SuperBlock};
use super::lone::totals;
use super::scales::{byte, two_bytes, unpack_signed_scales};
use super::tile::{Rows, Tile, floats, low_floats};

/// Q2_K: 16 scales and minimums of four bits each, 64 bytes of four weights each, f16 scale, f16 minimum. Q3_K, if
/// `THREE`: 32 bytes of third bits, 64 bytes of four weights each, 12 bytes of six-bit scales, f16 scale; 4 is zero.
pub(crate) struct TwoBit<const THREE: bool>;

pub(crate) type Q2K = Of<TwoBit<false>>;
pub(crate) type Q3K = Of<TwoBit<true>>;

impl<const THREE: bool> TwoBit<THREE> {
    /// Where the packed weights begin.
    const PACKED: usize = if THREE { 32 } else { 16 };
}

impl<const THREE: bool> SuperBlock for TwoBit<THREE> {
    const BYTES: usize = if THREE { 110 } else { 84 };
    const GROUP: usize = 16;
    const ZERO: i32 = if THREE { 4 } else { 0 };
    const PARTS: usize = 4;
    const ORDER: Option<[usize; 16]> = Some([0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]);

    type Shared = [[__m512i; 4]; 2];
    type Part = [__m512i; 4];

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        let four = |x| _mm512_and_si512(x, nibble);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            if THREE {
                let scale = floats(rows.halves(at + 108));
                let (a, b) = (rows.words(at + 96), rows.words(at + 100));
                let upper = rows.words(at + 104);
                let low = [
                    four(a),
                    four(b),
                    four(_mm512_srli_epi32::<4>(a)),
                    four(_mm512_srli_epi32::<4>(b)),
                ];
                for (i, low) in low.into_iter().enumerate() {
                    let two = _mm512_srl_epi32(upper, _mm_cvtsi32_si128(i as i32 * 2));
                    let two = _mm512_and_si512(two, _mm512_set1_epi8(3));
                    let six = _mm512_or_si512(low, _mm512_slli_epi32::<4>(two));
                    let scales = _mm512_sub_epi8(six, _mm512_set1_epi8(32));
                    unpack_signed_scales(scales, scale, tile, index, i);
                }
                return;
            }
            let both = rows.words(at + 80);
            let scale = low_floats(both);
            (*tile).offset_scales[index] = low_floats(_mm512_srli_epi32::<16>(both));
            for (i, packed) in rows.load(at).into_iter().enumerate() {
                let (scales, mins) = (four(packed), four(_mm512_srli_epi32::<4>(packed)));
                for j in 0..4 {
                    let small = _mm512_cvtepi32_ps(byte(scales, j));
                    (*tile).scales[index * 16 + i * 4 + j] = _mm512_mul_ps(small, scale);
                }
                for pair in 0..2 {
                    (*tile).offsets[index * 8 + i * 2 + pair] = two_bytes(mins, pair * 2);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn shared(rows: &Rows, at: usize) -> [[__m512i; 4]; 2] {
        if !THREE {
            return [[_mm512_setzero_si512(); 4]; 2];
        }
        // SAFETY: the third bits begin the block.
        unsafe { [rows.load(at), rows.load(at + 16)] }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn part(rows: &Rows, at: usize, part: usize) -> [__m512i; 4] {
        // SAFETY: the packed weights are within the block.
        unsafe { rows.load(at + Self::PACKED + part * 16) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn weights(
        third: &[[__m512i; 4]; 2],
        packed: &[__m512i; 4],
        part: usize,
        i: usize,
        four: usize,
    ) -> __m512i {
        let down = _mm512_set1_epi32(i as i32 * 2);
        let two = _mm512_srlv_epi32(packed[four], down);
        let two = _mm512_and_si512(two, _mm512_set1_epi8(3));
        if !THREE {
            return two;
        }
        // From where it is to the bit that counts 4.
        let turn = _mm512_set1_epi32((part / 2 * 4 + i) as i32 - 2);
        let third = _mm512_rorv_epi32(third[part % 2][four], turn);
        _mm512_or_si512(two, _mm512_and_si512(third, _mm512_set1_epi8(4)))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn totals(
        rows: &Rows,
        ahead: &mut InOrder,
        at: usize,
        values: *const i8,
    ) -> [__m512i; 16] {
        // SAFETY: they are within the 256 values.
        let values = unsafe { values.cast::<[__m512i; 4]>().read_unaligned() };
        // The first and the second quarter of a half side by side, or the third and the fourth.
        let two =
            |a: i16, b: i16| _mm512_inserti64x4::<1>(_mm512_set1_epi16(a), _mm256_set1_epi16(b));
        let down = [two(0, 2), two(4, 6)];
        let groups = totals(rows, ahead, at, Self::BYTES, |block| {
            let mut sums = [_mm512_setzero_si512(); 4];
            for half in 0..2 {
                // SAFETY: the weights are within the block.
                let packed = unsafe { load_twice(block.add(Self::PACKED + half * 32)) };
                for (pair, down) in down.into_iter().enumerate() {
                    let mut weights =
                        _mm512_and_si512(_mm512_srlv_epi16(packed, down), _mm512_set1_epi8(3));
                    if THREE {
                        let bit = 0x0101 << (half * 4 + pair * 2);
                        let bits = two(bit as i16, (bit << 1) as i16);
                        // SAFETY: the third bits begin the block.
                        let set = _mm512_test_epi8_mask(unsafe { load_twice(block) }, bits);
                        let four = _mm512_set1_epi8(4);
                        weights = _mm512_mask_add_epi8(weights, set, weights, four);
                    }
                    let zero = _mm512_setzero_si512();
                    let at = half * 2 + pair;
                    sums[at] = _mm512_dpbusd_epi32(zero, weights, values[at]);
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

/// 32 bytes, twice.
///
/// # Safety
/// They are valid for reading; the CPU has AVX-512.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_twice(from: *const u8) -> __m512i {
    // SAFETY: by the caller's word.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(from.cast()) })
}
