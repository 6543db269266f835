//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::x86_64::*;
use std::array::from_fn;
use std::marker::PhantomData;
use std::ops::Range;

use super::ahead::{InOrder, RowByRow};
use super::lone::{gather, totals};
use super::tile::{ROWS, Rows, Tile, WEIGHTS, floats, low_floats, spread};
use super::{Kernel, TILES};
use crate::activation::Column;

/// How a type packs its blocks. The scale comes first, as f16.
pub(crate) trait Block {
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
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack(rows: &Rows, blocks: usize, tile: *mut Tile) {
        // SAFETY: as the caller says.
        unsafe { unpack_scales::<B>(rows, 0..blocks, tile) };
        for block in 0..blocks {
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
    unsafe fn multiply<const C: usize>(
        tiles: *const Tile,
        ahead: &[RowByRow; TILES],
        blocks: usize,
        columns: &[Column; C],
        first: usize,
        sums: &mut [[__m512; C]; TILES],
    ) {
        for block in 0..blocks {
            for ahead in ahead {
                ahead.ask(ROWS * B::BYTES);
            }
            // SAFETY: the tiles and the columns have this block.
            unsafe {
                let mut totals = [starts::<B, C>(columns, first + block); TILES];
                for four in 0..8 {
                    let mut weights = [_mm512_setzero_si512(); TILES];
                    for (r, weights) in weights.iter_mut().enumerate() {
                        *weights = (*tiles.add(r)).weights[block * 8 + four];
                    }
                    for (c, column) in columns.iter().enumerate() {
                        let values = spread(column.values.add((first + block) * 32 + four * 4));
                        for r in 0..TILES {
                            totals[r][c] = _mm512_dpbusd_epi32(totals[r][c], weights[r], values);
                        }
                    }
                }
                add_block::<B, TILES, C>(tiles, block, columns, first + block, &totals, sums);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply_few<const C: usize>(
        rows: &Rows,
        mut ahead: InOrder,
        blocks: usize,
        tile: *mut Tile,
        columns: &[Column; C],
        sums: &mut [__m512; C],
    ) {
        let mut all = [*sums];
        for block in 0..blocks {
            let of_tile = block % TILE_BLOCKS;
            // SAFETY: the rows and the columns have all these blocks, the tile those whose scales are in it.
            unsafe {
                if of_tile == 0 {
                    unpack_scales::<B>(rows, block..blocks.min(block + TILE_BLOCKS), tile);
                }
                let mut totals = starts::<B, C>(columns, block);
                let weights = B::unpack(rows, block * B::BYTES);
                for (four, weights) in weights.into_iter().enumerate() {
                    ahead.ask(four, 8, ROWS * B::BYTES);
                    for (c, column) in columns.iter().enumerate() {
                        let values = spread(column.values.add(block * 32 + four * 4));
                        totals[c] = _mm512_dpbusd_epi32(totals[c], weights, values);
                    }
                }
                add_block::<B, 1, C>(tile, of_tile, columns, block, &[totals], &mut all);
            }
        }
        [*sums] = all;
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply_lone(
        rows: &Rows,
        mut ahead: InOrder,
        blocks: usize,
        tile: *mut Tile,
        column: &Column,
        sum: &mut __m512,
    ) {
        let mut sums = [[*sum]];
        for from in (0..blocks).step_by(4) {
            // SAFETY: the rows and the column have all these blocks, the tile those whose scales are in it.
            unsafe {
                if from % TILE_BLOCKS == 0 {
                    unpack_scales::<B>(rows, from..blocks.min(from + TILE_BLOCKS), tile);
                }
                // Beyond the end, the last block again, which nobody looks at.
                let four: [usize; 4] = from_fn(|i| (from + i).min(blocks - 1));
                let at = four.map(|block| (block - from) * B::BYTES);
                let places = four.map(|block| block * 32);
                let values = [
                    gather(column.values, places),
                    gather(column.values, places.map(|at| at + 16)),
                ];
                let [totals] = totals(rows, &mut ahead, from * B::BYTES, 4 * B::BYTES, |row| {
                    let [low, high] = B::four_blocks(row, at);
                    let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, values[0]);
                    [_mm512_dpbusd_epi32(sum, high, values[1])]
                });
                for (block, total) in (from..blocks).zip(totals) {
                    let [start] = starts::<B, 1>(&[*column], block);
                    let totals = [[_mm512_add_epi32(total, start)]];
                    let of_tile = block % TILE_BLOCKS;
                    add_block::<B, 1, 1>(tile, of_tile, &[*column], block, &totals, &mut sums);
                }
            }
        }
        [[*sum]] = sums;
    }
}

/// Blocks of a tile.
const TILE_BLOCKS: usize = WEIGHTS / 32;

/// What the totals of the columns' block `at` begin with: as weights stand above zero, what they would be too large by,
/// negative.
///
/// # Safety
/// The CPU has AVX-512; the columns have the block.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn starts<B: Block, const C: usize>(columns: &[Column; C], at: usize) -> [__m512i; C] {
    let mut starts = [_mm512_setzero_si512(); C];
    if B::ZERO != 0 {
        for (start, column) in starts.iter_mut().zip(columns) {
            // SAFETY: by the caller's word.
            let sum = unsafe { column.sums.cast::<i32>().add(at).read_unaligned() };
            *start = _mm512_set1_epi32(sum.wrapping_mul(-B::ZERO));
        }
    }
    starts
}

/// Unpacks the scales of `blocks`, at most [`TILE_BLOCKS`], to the tile's first ones.
///
/// # Safety
/// As [`Kernel::unpack`].
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn unpack_scales<B: Block>(rows: &Rows, blocks: Range<usize>, tile: *mut Tile) {
    // Small writes that are read as a whole soon after wait for each other: all scales first.
    let mut scales = [[0u16; ROWS]; TILE_BLOCKS];
    let mut with_mins = [[0u32; ROWS]; TILE_BLOCKS];
    for row in 0..ROWS {
        for block in 0..blocks.len() {
            // SAFETY: the rows have this block.
            unsafe {
                let start = rows.row(row).add((blocks.start + block) * B::BYTES);
                if B::MIN {
                    with_mins[block][row] = start.cast::<u32>().read_unaligned();
                } else {
                    scales[block][row] = start.cast::<u16>().read_unaligned();
                }
            }
        }
    }
    for block in 0..blocks.len() {
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
                let total = _mm512_mul_ps(_mm512_cvtepi32_ps(totals[r][c]), scale);
                if B::MIN {
                    let min = (*tiles.add(r)).mins[block];
                    let sum = _mm512_castsi512_ps(spread(column.sums.cast::<f32>().add(at)));
                    sums[r][c] = _mm512_fmadd_ps(min, sum, sums[r][c]);
                }
                let scale = _mm512_castsi512_ps(spread(column.scales.add(at)));
                sums[r][c] = _mm512_fmadd_ps(total, scale, sums[r][c]);
            }
        }
    }
}
