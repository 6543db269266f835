//! Q4_0 to Q8_0: blocks of 32 weights.

use std::arch::x86_64::*;

use super::block_32::Block;
use super::lone::gather;
use super::tile::Rows;

/// The low halves of 16 bytes, then the high ones.
///
/// # Safety
/// As [`Rows::load`].
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn nibbles(rows: &Rows, at: usize) -> [__m512i; 8] {
    let nibble = _mm512_set1_epi8(15);
    // SAFETY: by the caller's word.
    let packed = unsafe { rows.load(at) };
    let mut weights = [nibble; 8];
    for (i, packed) in packed.into_iter().enumerate() {
        weights[i] = _mm512_and_si512(packed, nibble);
        weights[i + 4] = _mm512_and_si512(_mm512_srli_epi32::<4>(packed), nibble);
    }
    weights
}

/// Adds 16 to those of `weights` whose bit is set in the 32 bits at byte `at`.
///
/// # Safety
/// As [`Rows::words`].
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn add_fifth_bits(rows: &Rows, at: usize, weights: &mut [__m512i; 8]) {
    // SAFETY: by the caller's word.
    let bits = unsafe { rows.words(at) };
    let sixteen = _mm512_set1_epi8(16);
    for (i, weights) in weights.iter_mut().enumerate() {
        // Of each lane, byte i / 2 four times.
        let lane = 0x0101_0101 * (i as i32 / 2);
        let which = _mm512_add_epi32(
            _mm512_set1_epi32(lane),
            _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0),
        );
        let bytes = _mm512_shuffle_epi8(bits, which);
        let bit = _mm512_set1_epi32(if i % 2 == 0 {
            0x0804_0201
        } else {
            0x8040_2010_u32 as i32
        });
        let set = _mm512_test_epi8_mask(bytes, bit);
        *weights = _mm512_mask_add_epi8(*weights, set, *weights, sixteen);
    }
}

/// Of four blocks, from bytes `at` on: the low halves of 16 bytes, then the high ones.
///
/// # Safety
/// As [`gather`].
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn nibbles_of_four(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
    let nibble = _mm512_set1_epi8(15);
    // SAFETY: by the caller's word.
    let packed = unsafe { gather(row, at) };
    [
        _mm512_and_si512(packed, nibble),
        _mm512_and_si512(_mm512_srli_epi32::<4>(packed), nibble),
    ]
}

/// As [`add_fifth_bits`], to what [`nibbles_of_four`] gives.
///
/// # Safety
/// The CPU has AVX-512; four bytes from each place are valid for reading.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn add_fifth_bits_of_four(row: *const u8, at: [usize; 4], weights: &mut [__m512i; 2]) {
    let sixteen = _mm512_set1_epi8(16);
    for (half, weights) in weights.iter_mut().enumerate() {
        let bits = at.iter().rev().fold(0, |bits, at| {
            // SAFETY: by the caller's word.
            let more = unsafe { row.add(at + half * 2).cast::<u16>().read_unaligned() };
            bits << 16 | u64::from(more)
        });
        *weights = _mm512_mask_add_epi8(*weights, bits, *weights, sixteen);
    }
}

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const ZERO: i32 = 8;

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: the weights begin after the scale.
        unsafe { nibbles(rows, at + 2) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe { nibbles_of_four(row.add(2), at) }
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: the weights begin after scale and minimum.
        unsafe { nibbles(rows, at + 4) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe { nibbles_of_four(row.add(4), at) }
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 22;
    const ZERO: i32 = 16;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: bits and weights follow the scale.
        unsafe {
            let mut weights = nibbles(rows, at + 6);
            add_fifth_bits(rows, at + 2, &mut weights);
            weights
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe {
            let mut weights = nibbles_of_four(row.add(6), at);
            add_fifth_bits_of_four(row.add(2), at, &mut weights);
            weights
        }
    }
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const BYTES: usize = 24;
    const MIN: bool = true;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: bits and weights follow scale and minimum.
        unsafe {
            let mut weights = nibbles(rows, at + 8);
            add_fifth_bits(rows, at + 4, &mut weights);
            weights
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe {
            let mut weights = nibbles_of_four(row.add(8), at);
            add_fifth_bits_of_four(row.add(4), at, &mut weights);
            weights
        }
    }
}

/// f16 scale, 32 signed bytes.
pub(crate) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 34;
    const ZERO: i32 = 128;

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        let sign = _mm512_set1_epi8(-128);
        // SAFETY: the weights begin after the scale.
        let [low, high] = unsafe { [rows.load(at + 2), rows.load(at + 18)] };
        let mut weights = [sign; 8];
        for i in 0..4 {
            weights[i] = _mm512_xor_si512(low[i], sign);
            weights[i + 4] = _mm512_xor_si512(high[i], sign);
        }
        weights
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe {
            let sign = _mm512_set1_epi8(-128);
            [
                _mm512_xor_si512(gather(row.add(2), at), sign),
                _mm512_xor_si512(gather(row.add(18), at), sign),
            ]
        }
    }
}
