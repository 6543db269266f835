//! IQ4_NL and IQ4_XS: four bits are the number of a weight in a table.

use std::arch::x86_64::*;

use super::ahead::InOrder;
use super::block_32::Block;
use super::k_quant::{self, SuperBlock};
use super::legacy::{nibbles, nibbles_of_four};
use super::lone::{gather, totals};
use super::tile::{Rows, Tile, low_floats};
use crate::types::IQ4;

/// What an unpacked weight of zero stands at: the table's smallest is -127.
const ZERO: i32 = 128;

/// The table's weights, from [`ZERO`] on, for numbers below 16.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn looked_up(numbers: __m512i) -> __m512i {
    // SAFETY: the table fills a register.
    let table = unsafe { _mm_loadu_si128(IQ4.as_ptr().cast()) };
    let table = _mm_add_epi8(table, _mm_set1_epi8(ZERO as i8));
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), numbers)
}

/// f16 scale, 16 bytes of two weights each.
pub(crate) struct Iq4Nl;

impl Block for Iq4Nl {
    const BYTES: usize = 18;
    const ZERO: i32 = ZERO;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: the weights begin after the scale.
        let mut weights = unsafe { nibbles(rows, at + 2) };
        for weights in &mut weights {
            *weights = looked_up(*weights);
        }
        weights
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        let [low, high] = unsafe { nibbles_of_four(row.add(2), at) };
        [looked_up(low), looked_up(high)]
    }
}

/// f16 scale, upper two bits of eight scales, their lower four, 128 bytes of two weights each; a scale of 32 is zero.
pub(crate) struct FourBit;

pub(crate) type Iq4Xs = k_quant::Of<FourBit>;

impl SuperBlock for FourBit {
    const BYTES: usize = 136;
    const GROUP: usize = 32;
    const ZERO: i32 = ZERO;
    const PARTS: usize = 8;

    type Shared = ();
    type Part = [__m512i; 4];

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let [first, low, ..] = rows.load(at);
            let scale = low_floats(first);
            for group in 0..8 {
                let low = _mm512_srl_epi32(low, _mm_cvtsi32_si128(group * 4));
                let high = _mm512_srl_epi32(first, _mm_cvtsi32_si128(16 + group * 2));
                let small = _mm512_or_si512(
                    _mm512_and_si512(low, _mm512_set1_epi32(15)),
                    _mm512_slli_epi32::<4>(_mm512_and_si512(high, _mm512_set1_epi32(3))),
                );
                let small = _mm512_cvtepi32_ps(_mm512_sub_epi32(small, _mm512_set1_epi32(32)));
                (*tile).scales[index * 8 + group as usize] = _mm512_mul_ps(small, scale);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn shared(_: &Rows, _: usize) {}

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn part(rows: &Rows, at: usize, part: usize) -> [__m512i; 4] {
        // SAFETY: the numbers are within the block.
        unsafe { rows.load(at + 8 + part * 16) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn weights(_: &(), packed: &[__m512i; 4], _: usize, _: usize, four: usize) -> __m512i {
        let mut numbers = packed[four % 4];
        if four / 4 == 1 {
            numbers = _mm512_srli_epi32::<4>(numbers);
        }
        looked_up(_mm512_and_si512(numbers, _mm512_set1_epi8(15)))
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
        let mut halves = [[_mm512_setzero_si512(); 2]; 2];
        for (p, halves) in halves.iter_mut().enumerate() {
            for (half, values_of_half) in halves.iter_mut().enumerate() {
                let from = p * 128 + half * 16;
                // SAFETY: it is within the 256 values.
                *values_of_half =
                    unsafe { gather(values, [from, from + 32, from + 64, from + 96]) };
            }
        }
        let groups = totals(rows, ahead, at, Self::BYTES, |block| {
            let mut sums = [_mm512_setzero_si512(); 2];
            for (p, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the weights are within the block.
                let packed = unsafe { _mm512_loadu_si512(block.add(8 + p * 64).cast()) };
                let low = looked_up(_mm512_and_si512(packed, nibble));
                let high = looked_up(_mm512_and_si512(_mm512_srli_epi32::<4>(packed), nibble));
                *sum = _mm512_dpbusd_epi32(*sum, low, halves[p][0]);
                *sum = _mm512_dpbusd_epi32(*sum, high, halves[p][1]);
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
