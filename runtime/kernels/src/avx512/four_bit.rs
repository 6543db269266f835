//! Q4_K and Q5_K: eight groups of weights of four bits, those of Q5_K with a fifth.

use std::arch::x86_64::*;

use super::ahead::InOrder;
use super::k_quant::{Of, SuperBlock};
use super::lone::{gather, totals};
use super::scales::{byte, two_bytes};
use super::tile::{Rows, Tile, low_floats};

/// Q4_K, and Q5_K if `FIVE`: f16 scale, f16 minimum, 12 bytes of scales and minimums of six bits, of Q5_K 32 bytes of
/// fifth bits, bit `g` for group `g`, then 128 bytes of two weights each.
pub(crate) struct FourBit<const FIVE: bool>;

pub(crate) type Q4K = Of<FourBit<false>>;
pub(crate) type Q5K = Of<FourBit<true>>;

impl<const FIVE: bool> SuperBlock for FourBit<FIVE> {
    const BYTES: usize = if FIVE { 176 } else { 144 };
    const GROUP: usize = 32;
    const SUMS_OF: usize = 32;
    const PARTS: usize = 4;

    type Shared = [__m512i; 8];
    type Part = [__m512i; 8];

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let [d, a, b, c] = rows.load(at);
            let scale = low_floats(d);
            let min = low_floats(_mm512_srli_epi32::<16>(d));
            (*tile).offset_scales[index] = min;

            let six = _mm512_set1_epi32(0x3f3f_3f3f);
            let upper = |x| {
                let two =
                    _mm512_and_si512(_mm512_srli_epi32::<6>(x), _mm512_set1_epi32(0x0303_0303));
                _mm512_slli_epi32::<4>(two)
            };
            let four = |x| _mm512_and_si512(x, nibble);
            let scales = [_mm512_and_si512(a, six), _mm512_or_si512(four(c), upper(a))];
            let mins = [
                _mm512_and_si512(b, six),
                _mm512_or_si512(four(_mm512_srli_epi32::<4>(c)), upper(b)),
            ];
            for group in 0..8 {
                let small = _mm512_cvtepi32_ps(byte(scales[group / 4], group % 4));
                (*tile).scales[index * 8 + group] = _mm512_mul_ps(small, scale);
            }
            for pair in 0..4 {
                (*tile).offsets[index * 4 + pair] = two_bytes(mins[pair / 2], pair % 2 * 2);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn shared(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: the fifth bits are within the block.
        unsafe {
            if FIVE {
                two_loads(rows, at + 16)
            } else {
                [_mm512_setzero_si512(); 8]
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn part(rows: &Rows, at: usize, part: usize) -> [__m512i; 8] {
        // SAFETY: the weights are within the block.
        unsafe { two_loads(rows, at + if FIVE { 48 } else { 16 } + part * 32) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn weights(
        fifth: &[__m512i; 8],
        bits: &[__m512i; 8],
        part: usize,
        i: usize,
        four: usize,
    ) -> __m512i {
        let mut low = bits[four];
        if i == 1 {
            low = _mm512_srli_epi32::<4>(low);
        }
        let low = _mm512_and_si512(low, _mm512_set1_epi8(15));
        if !FIVE {
            return low;
        }
        // From where it is to the bit that counts 16.
        let turn = _mm512_set1_epi32((part * 2 + i) as i32 - 4);
        let fifth = _mm512_rorv_epi32(fifth[four], turn);
        _mm512_or_si512(low, _mm512_and_si512(fifth, _mm512_set1_epi8(16)))
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
        let sixteen = _mm512_set1_epi8(16);
        // First halves, then second ones, of the even groups and of the odd ones each; and the fifth bits of these.
        let mut halves = [[_mm512_setzero_si512(); 2]; 2];
        let mut bits = [_mm512_setzero_si512(); 2];
        for odd in 0..2 {
            for (half, groups) in halves.iter_mut().enumerate() {
                let from = odd * 32 + half * 16;
                // SAFETY: it is within the 256 values.
                groups[odd] = unsafe { gather(values, [from, from + 64, from + 128, from + 192]) };
            }
            let bit = |pair: i32| _mm_set1_epi8((1u8 << (pair * 2 + odd as i32)) as i8);
            bits[odd] = _mm512_castsi128_si512(bit(0));
            bits[odd] = _mm512_inserti32x4::<1>(bits[odd], bit(1));
            bits[odd] = _mm512_inserti32x4::<2>(bits[odd], bit(2));
            bits[odd] = _mm512_inserti32x4::<3>(bits[odd], bit(3));
        }
        let [even, odd] = totals(rows, ahead, at, Self::BYTES, |block| {
            let mut sums = [_mm512_setzero_si512(); 2];
            for (half, values) in halves.iter().enumerate() {
                // SAFETY: the weights are within the block.
                unsafe {
                    let low = block.add(if FIVE { 48 } else { 16 } + half * 16);
                    let packed = gather(low, [0, 32, 64, 96]);
                    let high = _mm512_srli_epi32::<4>(packed);
                    for (odd, packed) in [packed, high].into_iter().enumerate() {
                        let mut weights = _mm512_and_si512(packed, nibble);
                        if FIVE {
                            let fifth = _mm_loadu_si128(block.add(16 + half * 16).cast());
                            let set =
                                _mm512_test_epi8_mask(_mm512_broadcast_i32x4(fifth), bits[odd]);
                            weights = _mm512_mask_add_epi8(weights, set, weights, sixteen);
                        }
                        sums[odd] = _mm512_dpbusd_epi32(sums[odd], weights, values[odd]);
                    }
                }
            }
            sums
        });
        let mut groups = [_mm512_setzero_si512(); 16];
        for i in 0..4 {
            groups[i * 2] = even[i];
            groups[i * 2 + 1] = odd[i];
        }
        groups
    }
}

/// 32 bytes of each row from byte `at` on, in the order of [`Rows::load`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn two_loads(rows: &Rows, at: usize) -> [__m512i; 8] {
    // SAFETY: by the caller's word.
    let ([a, b, c, d], [e, f, g, h]) = unsafe { (rows.load(at), rows.load(at + 16)) };
    [a, b, c, d, e, f, g, h]
}
