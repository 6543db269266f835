//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::x86_64::*;
use std::array::from_fn;
use std::marker::PhantomData;

use super::Kernel;
use super::lone::{gather, totals};
use super::tile::{ROWS, Rows, Tile, WEIGHTS, floats, low_floats, spread};
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

    /// The weights of four blocks of a row that begin at bytes `at`, unsigned: the first half of each, then the
    /// second.
    ///
    /// # Safety
    /// The CPU has AVX-512; the row is valid for reading the blocks.
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2];
}

/// The kernel of a [`Block`].
pub(super) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack(rows: &Rows, blocks: usize, tile: *mut Tile) {
        // SAFETY: as the caller says.
        unsafe { unpack_scales::<B>(rows, blocks, tile) };
        for block in 0..blocks {
            rows.ask_while_unpacking(B::BYTES, 1);
            // SAFETY: the rows have this block, and the tile has room for `WEIGHTS` weights of each.
            unsafe {
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
        rows: Option<&[Rows; R]>,
        blocks: usize,
        columns: &[Column; C],
        first: usize,
        sums: &mut [[__m512; C]; R],
    ) {
        for block in 0..blocks {
            for rows in rows.into_iter().flatten() {
                rows.ask_while_multiplying(B::BYTES, 1);
            }
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
                add_block::<B, R, C>(tiles, block, columns, first + block, &totals, sums);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply_lone(
        rows: &Rows,
        blocks: usize,
        tile: *mut Tile,
        column: &Column,
        first: usize,
        sums: &mut [[__m512; 1]; 1],
    ) {
        // SAFETY: the rows, the column and the tile have all these blocks.
        unsafe {
            unpack_scales::<B>(rows, blocks, tile);
            for from in (0..blocks).step_by(4) {
                // Beyond the end, the last block again, which nobody looks at.
                let four: [usize; 4] = from_fn(|i| (from + i).min(blocks - 1));
                let at = four.map(|block| (block - from) * B::BYTES);
                let places = four.map(|block| (first + block) * 32);
                let values = [
                    gather(column.values, places),
                    gather(column.values, places.map(|at| at + 16)),
                ];
                let [totals] = totals(rows, from * B::BYTES, 4 * B::BYTES, |row| {
                    let [low, high] = B::four_blocks(row, at);
                    let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, values[0]);
                    [_mm512_dpbusd_epi32(sum, high, values[1])]
                });
                for (block, mut total) in (from..blocks).zip(totals) {
                    if B::ZERO != 0 {
                        let sum = column.sums.cast::<i32>().add(first + block);
                        let below = sum.read_unaligned().wrapping_mul(-B::ZERO);
                        total = _mm512_add_epi32(total, _mm512_set1_epi32(below));
                    }
                    add_block::<B, 1, 1>(tile, block, &[*column], first + block, &[[total]], sums);
                }
            }
        }
    }
}

/// # Safety
/// As [`Kernel::unpack`].
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn unpack_scales<B: Block>(rows: &Rows, blocks: usize, tile: *mut Tile) {
    // Small writes that are read as a whole soon after wait for each other: all scales first.
    let mut scales = [[0u16; ROWS]; WEIGHTS / 32];
    let mut with_mins = [[0u32; ROWS]; WEIGHTS / 32];
    for row in 0..ROWS {
        for block in 0..blocks {
            // SAFETY: the rows have this block.
            unsafe {
                let start = rows.row(row).add(block * B::BYTES);
                if B::MIN {
                    with_mins[block][row] = start.cast::<u32>().read_unaligned();
                } else {
                    scales[block][row] = start.cast::<u16>().read_unaligned();
                }
            }
        }
    }
    for block in 0..blocks {
        // SAFETY: sixteen of them fill a register; the tile has room for `WEIGHTS` weights of each row.
        unsafe {
            if B::MIN {
                let both = _mm512_loadu_si512(with_mins[block].as_ptr().cast());
                (*tile).scales[block] = low_floats(both);
                (*tile).mins[block] = low_floats(_mm512_srli_epi32::<16>(both));
            } else {
                (*tile).scales[block] = floats(scales[block]);
            }
        }
    }
}

/// Adds the totals of a block, the tiles' `block`th, to `sums`. It meets the columns' block `at`.
///
/// # Safety
/// The CPU is available; the tiles and the columns have the block.
#[target_feature(enable = "avx512f,fma")]
#[inline]
unsafe fn add_block<B: Block, const R: usize, const C: usize>(
    tiles: *const Tile,
    block: usize,
    columns: &[Column; C],
    at: usize,
    totals: &[[__m512i; C]; R],
    sums: &mut [[__m512; C]; R],
) {
    for r in 0..R {
        // SAFETY: by the caller's word.
        unsafe {
            let scale = (*tiles.add(r)).scales[block];
            for (c, column) in columns.iter().enumerate() {
                let mut total = _mm512_mul_ps(_mm512_cvtepi32_ps(totals[r][c]), scale);
                if B::MIN {
                    let min = (*tiles.add(r)).mins[block];
                    let sum = spread(column.sums.cast::<i32>().add(at));
                    total = _mm512_fmadd_ps(min, _mm512_cvtepi32_ps(sum), total);
                }
                let scale = _mm512_castsi512_ps(spread(column.scales.add(at)));
                sums[r][c] = _mm512_fmadd_ps(total, scale, sums[r][c]);
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

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe { nibbles_of_four(row.add(2), at) }
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

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn four_blocks(row: *const u8, at: [usize; 4]) -> [__m512i; 2] {
        // SAFETY: as above.
        unsafe { nibbles_of_four(row.add(4), at) }
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
