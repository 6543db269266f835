//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::tile::{ROWS, Rows, Tile, WEIGHTS, floats, spread};
use crate::activation::Column;

/// How a type packs its blocks. The scale comes first, as f16.
pub(super) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether an f16 to be added to each weight follows the scale.
    const MIN: bool = false;
    /// What an unpacked weight of zero stands at.
    const ZERO: i32 = 0;

    /// The 32 weights of each row's block that begins at byte `at`, unsigned, four to a register.
    ///
    /// # Safety
    /// The CPU has AVX-512; each row is valid for reading the block.
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8];
}

/// The kernel of a [`Block`].
pub(super) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack(rows: &Rows, blocks: usize, tile: *mut Tile) {
        // Small writes that are read as a whole soon after wait for each other: all scales first.
        let mut scales = [[0u16; ROWS]; WEIGHTS / 32];
        let mut mins = [[0u16; ROWS]; WEIGHTS / 32];
        for block in 0..blocks {
            let at = block * B::BYTES;
            rows.prefetch(at, B::BYTES);
            // SAFETY: the rows have this block.
            unsafe {
                scales[block] = rows.halves(at);
                if B::MIN {
                    mins[block] = rows.halves(at + 2);
                }
            }
        }
        for block in 0..blocks {
            // SAFETY: the rows have this block, and the tile has room for `WEIGHTS` weights of each.
            unsafe {
                (*tile).scales[block] = floats(scales[block]);
                if B::MIN {
                    (*tile).mins[block] = floats(mins[block]);
                }
                let weights = B::unpack(rows, block * B::BYTES);
                (&raw mut (*tile).weights)
                    .cast::<[__m512i; 8]>()
                    .add(block)
                    .write(weights);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply<const R: usize, const C: usize>(
        tiles: *const Tile,
        blocks: usize,
        columns: &[Column; C],
        first: usize,
        sums: &mut [[__m512; C]; R],
    ) {
        for block in 0..blocks {
            // SAFETY: the tiles and the columns have this block.
            unsafe {
                let mut totals = [[_mm512_setzero_si512(); C]; R];
                if B::ZERO != 0 {
                    for (c, column) in columns.iter().enumerate() {
                        let sum = column
                            .sums
                            .cast::<i32>()
                            .add(first + block)
                            .read_unaligned();
                        let below = _mm512_set1_epi32(sum.wrapping_mul(-B::ZERO));
                        for totals in &mut totals {
                            totals[c] = below;
                        }
                    }
                }
                for four in 0..8 {
                    let mut weights = [_mm512_setzero_si512(); R];
                    for (r, weights) in weights.iter_mut().enumerate() {
                        *weights = (*tiles.add(r)).weights[block * 8 + four];
                    }
                    for (c, column) in columns.iter().enumerate() {
                        let values = spread(column.values.add((first + block) * 32 + four * 4));
                        for r in 0..R {
                            totals[r][c] = _mm512_dpbusd_epi32(totals[r][c], weights[r], values);
                        }
                    }
                }
                for r in 0..R {
                    let scale = (*tiles.add(r)).scales[block];
                    for (c, column) in columns.iter().enumerate() {
                        let mut total = _mm512_mul_ps(_mm512_cvtepi32_ps(totals[r][c]), scale);
                        if B::MIN {
                            let min = (*tiles.add(r)).mins[block];
                            let sum = spread(column.sums.cast::<i32>().add(first + block));
                            total = _mm512_fmadd_ps(min, _mm512_cvtepi32_ps(sum), total);
                        }
                        let scale = _mm512_castsi512_ps(spread(column.scales.add(first + block)));
                        sums[r][c] = _mm512_fmadd_ps(total, scale, sums[r][c]);
                    }
                }
            }
        }
    }
}

/// The low halves of 16 bytes, then the high ones.
///
/// # Safety
/// As [`Rows::load`].
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn nibbles(rows: &Rows, at: usize) -> [__m512i; 8] {
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

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(super) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const ZERO: i32 = 8;

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: the weights begin after the scale.
        unsafe { nibbles(rows, at + 2) }
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(super) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize) -> [__m512i; 8] {
        // SAFETY: the weights begin after scale and minimum.
        unsafe { nibbles(rows, at + 4) }
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(super) struct Q5_0;

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
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(super) struct Q5_1;

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
}

/// f16 scale, 32 signed bytes.
pub(super) struct Q8_0;

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
}
