//! AVX-512 with VNNI: Zen 4 and later, Ice Lake and later.
//!
//! Sixteen rows are unpacked side by side into a [`Tile`], so that a register holds the next four weights of
//! each; four values of a column, spread over a register, are multiplied with all sixteen rows at once.
//! The lanes are the rows: nothing has to be added up across them, and scales are multiplied for sixteen
//! rows at once. A tile is unpacked once for all columns; up to eight meet weights as these are unpacked, so that the CPU
//! does both at once; a lone one has a [way of its own](lone).

mod ahead;
pub(crate) mod block_32;
pub(crate) mod four_bit;
pub(crate) mod iq4;
mod k_quant;
pub(crate) mod legacy;
mod lone;
mod quantize;
mod scales;
pub(crate) mod six_bit;
mod tile;
mod totals;
pub(crate) mod two_bit;
pub(crate) mod vector;

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use crate::activation::Column;
use crate::panel::Panel;
use crate::simd::{self, Simd};
use ahead::{InOrder, RowByRow};
pub(crate) use quantize::quantize;
pub(crate) use tile::ROWS;
use tile::{Rows, Tile, WEIGHTS};

/// Whether this CPU has what the kernels here need.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// How a type's blocks go into tiles, and how a tile is multiplied.
pub(crate) trait Kernel {
    /// Weights of a block.
    const BLOCK_LEN: usize;

    /// Bytes of a block.
    const BLOCK_BYTES: usize;

    /// What an unpacked weight of zero stands at, if each group has a sum of its own of the column's values.
    const ZERO: i32 = 0;

    /// Values of a column whose sum is used.
    const SUMS_OF: usize = 16;

    /// Unpacks `blocks` blocks, at most [`WEIGHTS`] weights, of each row into `tile`.
    ///
    /// # Safety
    /// The CPU is [`available`]; each row is valid for reading the blocks; `tile` is valid for writing.
    unsafe fn unpack(rows: &Rows, blocks: usize, tile: *mut Tile);

    /// Adds the products of the tiles' rows with `C` columns to `sums`. The tiles' first block meets the
    /// columns' block `first`. The columns' share of what comes after the tiles' rows is asked for.
    ///
    /// # Safety
    /// The CPU is [`available`]; the tiles were unpacked by this type with `blocks` blocks; the columns have
    /// blocks from `first` on for them.
    unsafe fn multiply<const C: usize>(
        tiles: *const Tile,
        ahead: &[RowByRow; TILES],
        blocks: usize,
        columns: &[Column; C],
        first: usize,
        sums: &mut [[__m512; C]; TILES],
    );

    /// Adds the products of the rows with a few columns to `sums`, giving the same bits as [`Kernel::multiply`]: weights
    /// are multiplied as they are unpacked. As many bytes as the rows have are asked for `ahead`. Of `tile`, it uses what it
    /// likes.
    ///
    /// # Safety
    /// The CPU is [`available`]; rows and columns have `blocks` blocks; `tile` is valid for writing.
    unsafe fn multiply_few<const C: usize>(
        rows: &Rows,
        ahead: InOrder,
        blocks: usize,
        tile: *mut Tile,
        columns: &[Column; C],
        sums: &mut [__m512; C],
    );

    /// As [`Kernel::multiply_few`], of a lone column.
    ///
    /// # Safety
    /// As there.
    unsafe fn multiply_lone(
        rows: &Rows,
        ahead: InOrder,
        blocks: usize,
        tile: *mut Tile,
        column: &Column,
        sum: &mut __m512,
    );
}

/// The kernel of the type that `K` is for, if it is asked for with AVX-512.
pub(crate) fn kernel<K: Kernel>(simd: Simd) -> Option<simd::Kernel> {
    (simd == Simd::Avx512).then_some(simd::Kernel {
        simd,
        multiply: multiply::<K>,
        zero: K::ZERO,
        sums_of: K::SUMS_OF,
        together: 1,
        columns: 1..=usize::MAX,
    })
}

/// Asks memory for sixteen rows from `row` on, which will be computed soon.
pub(crate) fn ask_for_first(row: *const u8, stride: usize) {
    ahead::ask_at_once(row, (stride * ROWS).min(FIRST_BYTES));
}

/// Most that [`ask_for_first`] asks for: what is asked for all at once waits for each other.
const FIRST_BYTES: usize = 32 << 10;

/// With more columns than this, weights are unpacked into tiles before they are multiplied.
pub(crate) const FEW_COLUMNS: usize = 8;

/// Tiles that a column's values are multiplied with at once.
const TILES: usize = 2;

/// Columns that are multiplied with them at once.
const TILE_COLUMNS: usize = 4;

/// Values of all columns that stay in the second-level cache.
const STRIP_VALUES: usize = 256 << 10;

/// Computes `panel`.
///
/// # Safety
/// The CPU is [`available`], and `panel`, of `K`'s type, keeps its promises.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply<K: Kernel>(panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe {
        macro_rules! few {
            ($($n:literal)*) => {
                match panel.n_columns {
                    $($n => multiply_few::<K, $n>(panel),)*
                    _ => multiply_tiles::<K>(panel),
                }
            };
        }
        few!(1 2 3 4 5 6 7 8);
    }
}

/// # Safety
/// As [`multiply`], for a panel of `C` columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply_few<K: Kernel, const C: usize>(panel: &Panel) {
    let mut tile = MaybeUninit::<Tile>::uninit();
    let tile = tile.as_mut_ptr();
    let blocks = panel.layout.k / K::BLOCK_LEN;
    let columns = panel.columns::<C>(0);
    for row in (0..panel.rows).step_by(ROWS) {
        let rows = Rows::of(panel, row, 0);
        let ahead = InOrder::new(if row + ROWS < panel.rows {
            panel.row(row + ROWS)
        } else {
            panel.next
        });
        let mut sums = [_mm512_setzero_ps(); C];
        // SAFETY: rows and columns have these blocks, and the tile is one of ours.
        unsafe {
            if C == 1 {
                K::multiply_lone(&rows, ahead, blocks, tile, &columns[0], &mut sums[0]);
            } else {
                K::multiply_few(&rows, ahead, blocks, tile, &columns, &mut sums);
            }
        }
        let mask = ((1u32 << (panel.rows - row).min(ROWS)) - 1) as __mmask16;
        for (column, sum) in sums.into_iter().enumerate() {
            // SAFETY: the mask lets through the rows that the panel has.
            unsafe { _mm512_mask_storeu_ps(panel.output(row, column), mask, sum) };
        }
    }
}

/// # Safety
/// As [`multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply_tiles<K: Kernel>(panel: &Panel) {
    let mut tiles = [const { MaybeUninit::<Tile>::uninit() }; TILES];
    let tiles: *mut Tile = tiles.as_mut_ptr().cast();
    let blocks = panel.layout.k / K::BLOCK_LEN;
    let slice = WEIGHTS / K::BLOCK_LEN;
    // A strip of all rows at a time: the columns' values of it then stay in the second-level cache. It is as long as can be, as
    // long stretches of memory come faster than short ones.
    let strip = (STRIP_VALUES / panel.n_columns / WEIGHTS).max(1) * slice;
    for begin in (0..blocks).step_by(strip) {
        let end = blocks.min(begin + strip);
        let at = begin * K::BLOCK_BYTES;
        for row in (0..panel.rows).step_by(TILES * ROWS) {
            let next = if row + TILES * ROWS < panel.rows {
                panel.row(row + TILES * ROWS).wrapping_add(at)
            } else if end < blocks {
                panel.weights.wrapping_add(end * K::BLOCK_BYTES)
            } else {
                panel.next
            };
            let times = panel.n_columns.div_ceil(TILE_COLUMNS);
            let bytes = (end - begin) * K::BLOCK_BYTES;
            let ahead: [RowByRow; TILES] = std::array::from_fn(|r| {
                let next = next.wrapping_add(panel.weights_stride * r * ROWS);
                RowByRow::new(next, panel.weights_stride, bytes, times)
            });
            for first in (begin..end).step_by(slice) {
                let count = slice.min(end - first);
                for r in 0..TILES {
                    let rows = Rows::of(panel, row + r * ROWS, first * K::BLOCK_BYTES);
                    // SAFETY: the rows have these blocks, and the tile is one of ours.
                    unsafe { K::unpack(&rows, count, tiles.add(r)) };
                }
                for column in (0..panel.n_columns).step_by(TILE_COLUMNS) {
                    // SAFETY: the tiles were unpacked above; there are as many columns left.
                    unsafe {
                        let tiles = tiles.cast_const();
                        macro_rules! columns {
                            ($($n:literal)*) => {
                                match panel.n_columns - column {
                                    $($n => multiply_columns::<K, $n>(panel, tiles, &ahead, [row, column], first, count),)*
                                    _ => multiply_columns::<K, TILE_COLUMNS>(panel, tiles, &ahead, [row, column], first, count),
                                }
                            };
                        }
                        columns!(1 2 3);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`Kernel::multiply`], for the panel's columns from `column` on, and rows from `row` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
#[inline]
unsafe fn multiply_columns<K: Kernel, const C: usize>(
    panel: &Panel,
    tiles: *const Tile,
    ahead: &[RowByRow; TILES],
    [row, column]: [usize; 2],
    first: usize,
    count: usize,
) {
    let columns = panel.columns::<C>(column);
    let mut sums = [[_mm512_setzero_ps(); C]; TILES];
    let mut masks = [0; TILES];
    for (r, (sums, mask)) in sums.iter_mut().zip(&mut masks).enumerate() {
        let count = panel.rows.saturating_sub(row + r * ROWS).min(ROWS);
        *mask = ((1u32 << count) - 1) as __mmask16;
        if first > 0 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the mask lets through the rows that the panel has.
                *sum = unsafe {
                    _mm512_maskz_loadu_ps(*mask, panel.output(row + r * ROWS, column + i))
                };
            }
        }
    }
    // SAFETY: as the caller says.
    unsafe { K::multiply::<C>(tiles, ahead, count, &columns, first, &mut sums) };
    for (r, (sums, mask)) in sums.iter().zip(masks).enumerate() {
        for (i, sum) in sums.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                _mm512_mask_storeu_ps(panel.output(row + r * ROWS, column + i), mask, *sum);
            }
        }
    }
}

/// Multiplies values in registers as the kernels do, and nothing else; gives the number of operations.
///
/// # Safety
/// The CPU is [`available`].
#[target_feature(enable = "avx512f,avx512vnni")]
pub(crate) unsafe fn multiply_in_registers(rounds: usize) -> usize {
    let mut sums = [_mm512_setzero_si512(); 16];
    let (weights, values) = (
        std::hint::black_box(_mm512_set1_epi8(1)),
        std::hint::black_box(_mm512_set1_epi8(2)),
    );
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, weights, values);
        }
    }
    std::hint::black_box(sums).len() * rounds * 64 * 2
}
