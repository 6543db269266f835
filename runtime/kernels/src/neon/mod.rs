//! NEON, which each arm64 CPU has, with dot products or products of matrices (i8mm) where these are there.
//!
//! With dot products, four columns lie side by side, and four values of each meet four weights of a row in one
//! instruction: rows need not be brought side by side, and what is unpacked stays in registers. With products of matrices,
//! eight values of each of two columns meet eight weights of each of two rows, and an odd column is one of a pair. Without,
//! or with fewer columns, each row is multiplied as it lies, and the whole sums of four rows are brought side by side: a
//! column's product has the same bits either way. No sum can overflow, whatever the bytes of a file say.

pub(crate) mod block_32;
mod dot_product;
mod fours;
pub(crate) mod iq4;
mod isa;
mod k_quant;
mod k_tile;
mod pairs;
mod rows;
mod source;
pub(crate) mod super_blocks;
mod tile;
pub(crate) mod two_bit;
pub(crate) mod vector;

use std::arch::aarch64::*;

use crate::activation::Column;
use crate::panel::Panel;
use crate::simd::{self, Simd};
use dot_product::DotProduct;
use isa::{Isa, Plain};
use pairs::I8mm;
pub(crate) use rows::ROWS;
use rows::Rows;
use tile::Tile;

/// How a type's blocks are multiplied. Of two whole sums for each row, the second is for what is subtracted, if any.
///
/// All functions ask that rows and columns have the block, and of the CPU what they are for.
pub(crate) trait Kernel {
    /// Weights of a block.
    const BLOCK_LEN: usize;
    /// Bytes of a block.
    const BLOCK_BYTES: usize;
    /// How many rows, the first ones, are multiplied at once with columns that lie side by side: two, or four.
    const ROWS_OF_TILE: usize;
    /// What an unpacked weight of zero stands at, for columns side by side; 1 where a minimum is added.
    const ZERO: i32;
    /// How many values of a column are summed up, of those in blocks of 256.
    const SUMS_OF: usize = 16;

    /// The sums of a block of four rows with `C` columns' block `at`.
    unsafe fn multiply_rows<I: Isa, const C: usize>(
        rows: &Rows,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C];

    /// Adds a block's sums, times their scales, to those of the rows.
    unsafe fn add<const C: usize>(
        rows: &Rows,
        totals: [[int32x4_t; 2]; C],
        columns: &[Column; C],
        at: usize,
        sums: &mut [float32x4_t; C],
    );

    /// Adds the products of a block of [`Kernel::ROWS_OF_TILE`] rows with `F` times columns that lie side by side to
    /// their sums.
    unsafe fn multiply_tile<T: Tile<N>, const N: usize, const F: usize>(
        rows: &Rows,
        columns: &[Column; F],
        at: usize,
        sums: &mut [[[float32x4_t; N]; 2]; F],
    );
}

/// Whether this CPU has dot products.
pub(crate) fn has_dot_products() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Whether this CPU has products of 8-bit matrices, with dot products for a lone column.
pub(crate) fn has_i8mm() -> bool {
    has_dot_products() && std::arch::is_aarch64_feature_detected!("i8mm")
}

/// The kernel of the type that `K` is for.
pub(crate) fn kernel<K: Kernel>(simd: Simd) -> Option<simd::Kernel> {
    let (multiply, together): (unsafe fn(&Panel), _) = match simd {
        Simd::I8mm => (multiply::<DotProduct, I8mm, 1, K>, 2),
        Simd::DotProduct => (multiply::<DotProduct, DotProduct, 2, K>, 4),
        // Its columns all lie alone.
        Simd::Neon => (multiply::<Plain, DotProduct, 2, K>, 1),
    };
    Some(simd::Kernel {
        simd,
        multiply,
        zero: if together > 1 { K::ZERO } else { 0 },
        sums_of: K::SUMS_OF,
        together,
        columns: 1..=usize::MAX,
    })
}

/// Computes `panel`.
///
/// # Safety
/// The CPU has what `I` is for, and where columns lie side by side, `T`; `panel`, of `K`'s type, keeps its promises.
unsafe fn multiply<I: Isa, T: Tile<N>, const N: usize, K: Kernel>(panel: &Panel) {
    for row in (0..panel.rows).step_by(ROWS) {
        // SAFETY: as the caller says.
        unsafe {
            let mut column = 0;
            while column < panel.layout.side_by_side {
                let left = (panel.layout.side_by_side - column) / T::COLUMNS;
                column += T::COLUMNS
                    * match left.min(T::MOST) {
                        1 => multiply_tile::<K, T, N, 1>(panel, row, column),
                        2 => multiply_tile::<K, T, N, 2>(panel, row, column),
                        3 => multiply_tile::<K, T, N, 3>(panel, row, column),
                        _ => multiply_tile::<K, T, N, 4>(panel, row, column),
                    };
            }
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
/// As [`multiply`]; the panel has the row and the columns.
// What a call would cost is a tenth of a short row's time.
#[inline(always)]
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
        let mut add = |at: usize, rows: Rows| {
            let totals = K::multiply_rows::<I, C>(&rows, &columns, at);
            K::add(&rows, totals, &columns, at, &mut sums);
        };
        let blocks = panel.layout.k / K::BLOCK_LEN;
        let mut at = 0;
        // Of short blocks four at a time, as each turn of a loop has its cost; more columns have not the registers.
        while K::BLOCK_LEN == 32 && C == 1 && at + 4 <= blocks {
            let rows = start.skip(at * K::BLOCK_BYTES);
            add(at, rows);
            add(at + 1, rows.skip(K::BLOCK_BYTES));
            add(at + 2, rows.skip(2 * K::BLOCK_BYTES));
            add(at + 3, rows.skip(3 * K::BLOCK_BYTES));
            at += 4;
        }
        while at < blocks {
            add(at, start.skip(at * K::BLOCK_BYTES));
            at += 1;
        }
        for (c, sums) in sums.into_iter().enumerate() {
            store(panel, row, column + c, sums);
        }
    }
}

/// Multiplies the rows from `row` on with `F` times columns side by side from `column` on. Gives `F`.
///
/// # Safety
/// The CPU has what `T` is for, the panel, of `K`'s type, keeps its promises and has the row and the columns.
unsafe fn multiply_tile<K: Kernel, T: Tile<N>, const N: usize, const F: usize>(
    panel: &Panel,
    row: usize,
    column: usize,
) -> usize {
    let mut columns = [panel.side_by_side(column); F];
    for (i, columns) in columns.iter_mut().enumerate() {
        *columns = panel.side_by_side(column + i * T::COLUMNS);
    }
    // SAFETY: rows and columns have these blocks.
    unsafe {
        let mut products = [[[vdupq_n_f32(0.0); N]; 2]; F];
        for first in (0..ROWS).step_by(K::ROWS_OF_TILE) {
            let start = Rows::of(panel, row + first);
            let mut sums = [[[vdupq_n_f32(0.0); N]; 2]; F];
            for at in 0..panel.layout.k / K::BLOCK_LEN {
                let rows = start.skip(at * K::BLOCK_BYTES);
                K::multiply_tile::<T, N, F>(&rows, &columns, at, &mut sums);
            }
            for (products, sums) in products.iter_mut().zip(sums) {
                products[first / 2] = sums[0];
                if K::ROWS_OF_TILE == ROWS {
                    products[1] = sums[1];
                }
            }
        }
        for (f, products) in products.into_iter().enumerate() {
            T::by_column(products, |c, sums| {
                let column = column + f * T::COLUMNS + c;
                if column < panel.n_columns {
                    store(panel, row, column, sums);
                }
            });
        }
    }
    F
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

/// Multiplies values in registers as [`multiply`] does, and nothing else; gives the number of operations.
pub(crate) fn multiply_in_registers(rounds: usize) -> usize {
    // SAFETY: each CPU has what it is for.
    let groups = |weights: &_, values, total| unsafe {
        Plain::groups_of_32(weights, values, vdupq_n_s16(1), total)
    };
    repeat(rounds, groups)
}

/// The same as the kernels for dot products do.
///
/// # Safety
/// The CPU [has them](has_dot_products).
pub(crate) unsafe fn multiply_dot_products_in_registers(rounds: usize) -> usize {
    // SAFETY: as the caller says.
    let groups = |weights: &_, values, total| unsafe {
        DotProduct::groups_of_32(weights, values, vdupq_n_s16(1), total)
    };
    repeat(rounds, groups)
}

/// The same as the kernels for products of matrices do.
///
/// # Safety
/// The CPU [has them](has_i8mm).
pub(crate) unsafe fn multiply_matrices_in_registers(rounds: usize) -> usize {
    // SAFETY: as the caller says.
    let groups = |weights: &[int8x16_t; 8], values, total| unsafe {
        let [a, b, c, d, ..] = *weights;
        let scales = [vdupq_n_s32(1); 4];
        let [total] = I8mm::group_of_32::<0>([total], [[a, b], [c, d]], values, scales);
        total
    };
    repeat(rounds, groups)
}

/// `groups` multiplies 128 pairs of numbers, and adds the products to the total.
#[inline(always)]
fn repeat(
    rounds: usize,
    groups: impl Fn(&[int8x16_t; 8], *const i8, int32x4_t) -> int32x4_t,
) -> usize {
    let values = std::hint::black_box([2i8; 128]);
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let mut weights = std::hint::black_box([vdupq_n_s8(1); 8]);
        let mut total = vdupq_n_s32(0);
        for _ in 0..rounds {
            // Weights that hang on the round: or they would be multiplied once and for all.
            weights[0] = veorq_s8(weights[0], vdupq_n_s8(1));
            total = groups(&weights, values.as_ptr(), total);
        }
        std::hint::black_box(total);
    }
    rounds * 128 * 2
}
