//! NEON, which each arm64 CPU has, with dot products where these are there.
//!
//! Four rows are multiplied together, and their sums lie side by side. With dot products, several columns meet a
//! [tile](Kernel::Tile) of weights unpacked side by side, four values with four rows in one instruction; without, or
//! with a lone column, each row is multiplied where it lies, and only its whole sums are brought side by side: a
//! column's product has the same bits either way. No sum can overflow, whatever the bytes of a file say.

mod block_32;
mod isa;
mod k_quant;
mod rows;

use std::arch::aarch64::*;
use std::mem::MaybeUninit;

use crate::WeightType;
use crate::activation::Column;
use crate::panel::Panel;
use isa::{DotProduct, Isa, Plain};
pub(crate) use rows::ROWS;
use rows::Rows;

/// How a type's blocks are multiplied. Of two whole sums for each row, the second is for what is subtracted, if any.
///
/// All functions ask that rows, tiles and columns have the block, and of the CPU what they are for.
trait Kernel {
    /// Weights of a block.
    const BLOCK_LEN: usize;
    /// Bytes of a block.
    const BLOCK_BYTES: usize;
    /// The weights of a block, four rows side by side.
    type Tile: Copy;

    /// Unpacks a block.
    unsafe fn unpack(rows: &Rows<ROWS>, tile: *mut Self::Tile);

    /// The sums of a block with `C` columns' block `at`, by dot products.
    unsafe fn multiply<const C: usize>(
        tile: *const Self::Tile,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C];

    /// The same sums, row by row.
    unsafe fn multiply_rows<I: Isa, const C: usize>(
        rows: &Rows<ROWS>,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C];

    /// Adds a block's sums, times their scales, to those of the rows.
    unsafe fn add<const C: usize>(
        rows: &Rows<ROWS>,
        totals: [[int32x4_t; 2]; C],
        columns: &[Column; C],
        at: usize,
        sums: &mut [float32x4_t; C],
    );
}

/// Whether this CPU has dot products.
pub(crate) fn has_dot_products() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Computes `panel`, on any CPU.
///
/// # Safety
/// `panel` keeps its promises.
pub(crate) unsafe fn multiply(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe { multiply_with::<Plain>(weight_type, panel) }
}

/// Computes `panel` with dot products.
///
/// # Safety
/// The CPU [has them](has_dot_products), and `panel` keeps its promises.
pub(crate) unsafe fn multiply_by_dot_products(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe { multiply_with::<DotProduct>(weight_type, panel) }
}

/// # Safety
/// The CPU has what `I` is for, and `panel` keeps its promises.
unsafe fn multiply_with<I: Isa>(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe {
        match weight_type {
            WeightType::Q4_0 => multiply_panel::<I, block_32::Of<block_32::Q4_0>>(panel),
            WeightType::Q4_1 => multiply_panel::<I, block_32::Of<block_32::Q4_1>>(panel),
            WeightType::Q5_0 => multiply_panel::<I, block_32::Of<block_32::Q5_0>>(panel),
            WeightType::Q5_1 => multiply_panel::<I, block_32::Of<block_32::Q5_1>>(panel),
            WeightType::Q8_0 => multiply_panel::<I, block_32::Of<block_32::Q8_0>>(panel),
            WeightType::Q4K => multiply_panel::<I, k_quant::Q4K>(panel),
            WeightType::Q5K => multiply_panel::<I, k_quant::Q5K>(panel),
            WeightType::Q6K => multiply_panel::<I, k_quant::Q6K>(panel),
        }
    }
}

/// # Safety
/// As [`multiply_with`], for a panel of `K`'s type.
unsafe fn multiply_panel<I: Isa, K: Kernel>(panel: &Panel) {
    for row in (0..panel.rows).step_by(ROWS) {
        // SAFETY: as the caller says.
        unsafe {
            if I::BY_ELEMENT && panel.n_columns > 3 {
                multiply_tiles::<K>(panel, row);
                continue;
            }
            let mut column = 0;
            while column < panel.n_columns {
                let count = (panel.n_columns - column).min(2);
                match count {
                    1 => multiply_rows::<I, K, 1>(panel, row, column),
                    _ => multiply_rows::<I, K, 2>(panel, row, column),
                }
                column += count;
            }
        }
    }
}

/// Multiplies the rows from `row` on with `C` columns from `column` on.
///
/// # Safety
/// As [`multiply_with`]; the panel has the row and the columns.
unsafe fn multiply_rows<I: Isa, K: Kernel, const C: usize>(
    panel: &Panel,
    row: usize,
    column: usize,
) {
    let columns = panel.columns::<C>(column);
    let start = Rows::of(panel, row);
    // SAFETY: rows and columns have these blocks.
    unsafe {
        let mut sums = [vdupq_n_f32(0.0); C];
        for at in 0..panel.layout.k / K::BLOCK_LEN {
            let rows = start.skip(at * K::BLOCK_BYTES);
            let totals = K::multiply_rows::<I, C>(&rows, &columns, at);
            K::add(&rows, totals, &columns, at, &mut sums);
        }
        for (c, sums) in sums.into_iter().enumerate() {
            store(panel, row, column + c, sums);
        }
    }
}

/// Weights of each row that are unpacked at once: they stay in the first-level cache while the columns pass by.
const SLICE: usize = 1024;

/// Multiplies the rows from `row` on with all columns.
///
/// # Safety
/// The CPU has dot products, the panel, of `K`'s type, keeps its promises and has the row.
unsafe fn multiply_tiles<K: Kernel>(panel: &Panel, row: usize) {
    let mut tiles = [const { MaybeUninit::<K::Tile>::uninit() }; SLICE / 32];
    let tiles: *mut K::Tile = tiles.as_mut_ptr().cast();
    let blocks = panel.layout.k / K::BLOCK_LEN;
    let slice = SLICE / K::BLOCK_LEN;
    for first in (0..blocks).step_by(slice) {
        let rows = Rows::of(panel, row).skip(first * K::BLOCK_BYTES);
        let count = (blocks - first).min(slice);
        // SAFETY: rows and columns have these blocks, and the tiles are unpacked before they are multiplied.
        unsafe {
            for block in 0..count {
                K::unpack(&rows.skip(block * K::BLOCK_BYTES), tiles.add(block));
            }
            let tiles = tiles.cast_const();
            let mut column = 0;
            while column < panel.n_columns {
                let n = (panel.n_columns - column).min(4);
                match n {
                    1 => multiply_columns::<K, 1>(panel, tiles, row, column, first, count),
                    2 => multiply_columns::<K, 2>(panel, tiles, row, column, first, count),
                    3 => multiply_columns::<K, 3>(panel, tiles, row, column, first, count),
                    _ => multiply_columns::<K, 4>(panel, tiles, row, column, first, count),
                }
                column += n;
            }
        }
    }
}

/// Adds the products of the `count` blocks from `first` on, in `tiles`, with `C` columns from `column` on.
///
/// # Safety
/// As [`multiply_tiles`]; the tiles are unpacked.
unsafe fn multiply_columns<K: Kernel, const C: usize>(
    panel: &Panel,
    tiles: *const K::Tile,
    row: usize,
    column: usize,
    first: usize,
    count: usize,
) {
    let columns = panel.columns::<C>(column);
    let start = Rows::of(panel, row);
    // SAFETY: by the caller's word.
    unsafe {
        let mut sums = [vdupq_n_f32(0.0); C];
        if first > 0 {
            for (c, sums) in sums.iter_mut().enumerate() {
                *sums = load(panel, row, column + c);
            }
        }
        for block in 0..count {
            let at = first + block;
            let totals = K::multiply(tiles.add(block), &columns, at);
            K::add(
                &start.skip(at * K::BLOCK_BYTES),
                totals,
                &columns,
                at,
                &mut sums,
            );
        }
        for (c, sums) in sums.into_iter().enumerate() {
            store(panel, row, column + c, sums);
        }
    }
}

/// # Safety
/// The panel has the row and the column.
#[inline(always)]
unsafe fn store(panel: &Panel, row: usize, column: usize, sums: float32x4_t) {
    let output = panel.output(row, column);
    // SAFETY: by the caller's word, as many rows as there are.
    unsafe {
        if row + ROWS <= panel.rows {
            vst1q_f32(output, sums);
        } else {
            let mut lanes = [0.0; ROWS];
            vst1q_f32(lanes.as_mut_ptr(), sums);
            output.copy_from_nonoverlapping(lanes.as_ptr(), panel.rows - row);
        }
    }
}

/// # Safety
/// As [`store`]; what is loaded was stored.
#[inline(always)]
unsafe fn load(panel: &Panel, row: usize, column: usize) -> float32x4_t {
    let output = panel.output(row, column);
    // SAFETY: by the caller's word, as many rows as there are.
    unsafe {
        if row + ROWS <= panel.rows {
            return vld1q_f32(output);
        }
        let mut lanes = [0.0; ROWS];
        lanes
            .as_mut_ptr()
            .copy_from_nonoverlapping(output, panel.rows - row);
        vld1q_f32(lanes.as_ptr())
    }
}

/// Multiplies values in registers as [`multiply`] does, and nothing else; gives the number of operations.
pub(crate) fn multiply_in_registers(rounds: usize) -> usize {
    // SAFETY: each CPU has what it is for.
    unsafe { repeat::<Plain>(rounds) }
}

/// The same as [`multiply_by_dot_products`] does.
///
/// # Safety
/// The CPU [has them](has_dot_products).
pub(crate) unsafe fn multiply_dot_products_in_registers(rounds: usize) -> usize {
    // SAFETY: as the caller says.
    unsafe { repeat::<DotProduct>(rounds) }
}

/// # Safety
/// The CPU has what `I` is for.
#[inline(always)]
unsafe fn repeat<I: Isa>(rounds: usize) -> usize {
    let values = std::hint::black_box([2i8; 128]);
    // SAFETY: there are 128 values, in the first-level cache.
    unsafe {
        let mut weights = std::hint::black_box([vdupq_n_s8(1); 8]);
        let mut total = vdupq_n_s32(0);
        for _ in 0..rounds {
            // Weights that hang on the round: or they would be multiplied once and for all.
            weights[0] = veorq_s8(weights[0], vdupq_n_s8(1));
            total = I::groups_of_32(&weights, values.as_ptr(), vdupq_n_s16(1), total);
        }
        std::hint::black_box(total);
    }
    rounds * 128 * 2
}
