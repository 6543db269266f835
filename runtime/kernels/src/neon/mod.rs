//! NEON, which each arm64 CPU has, with dot products where these are there.
//!
//! With dot products, four columns lie side by side, and four values of each meet four weights of a row in one
//! instruction: rows need not be brought side by side, and what is unpacked stays in registers. Without, or with
//! fewer columns, each row is multiplied as it lies, and the whole sums of four rows are brought side by side: a
//! column's product has the same bits either way. No sum can overflow, whatever the bytes of a file say.

pub(crate) mod block_32;
mod dot_product;
mod fours;
pub(crate) mod iq4;
mod isa;
mod k_fours;
mod k_quant;
mod rows;
pub(crate) mod super_blocks;
pub(crate) mod two_bit;
pub(crate) mod vector;

use std::arch::aarch64::*;

use crate::activation::Column;
use crate::panel::Panel;
use crate::simd::{self, Simd};
use dot_product::DotProduct;
use isa::{Isa, Plain};
pub(crate) use rows::ROWS;
use rows::{Rows, transposed};

/// How a type's blocks are multiplied. Of two whole sums for each row, the second is for what is subtracted, if any.
///
/// All functions ask that rows and columns have the block, and of the CPU what they are for.
pub(crate) trait Kernel {
    /// Weights of a block.
    const BLOCK_LEN: usize;
    /// Bytes of a block.
    const BLOCK_BYTES: usize;
    /// How many rows, the first ones, are multiplied with columns in fours at once.
    const ROWS_BY_FOURS: usize;
    /// What an unpacked weight of zero stands at, for columns in fours; 1 where a minimum is added.
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

    /// Adds the products of a block of [`Kernel::ROWS_BY_FOURS`] rows with four or eight columns to their sums with
    /// each row, by dot products.
    unsafe fn multiply_fours<const F: usize>(
        rows: &Rows,
        fours: &[Column; F],
        at: usize,
        sums: &mut [[float32x4_t; ROWS]; F],
    );
}

/// Whether this CPU has dot products.
pub(crate) fn has_dot_products() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// The kernel of the type that `K` is for.
pub(crate) fn kernel<K: Kernel>(simd: Simd) -> Option<simd::Kernel> {
    let fours = simd == Simd::DotProduct;
    Some(simd::Kernel {
        simd,
        multiply: if fours {
            multiply::<DotProduct, K>
        } else {
            multiply::<Plain, K>
        },
        zero: if fours { K::ZERO } else { 0 },
        sums_of: K::SUMS_OF,
        fours,
        columns: 1..=usize::MAX,
    })
}

/// Computes `panel`.
///
/// # Safety
/// The CPU has what `I` is for, and `panel`, of `K`'s type, keeps its promises.
unsafe fn multiply<I: Isa, K: Kernel>(panel: &Panel) {
    for row in (0..panel.rows).step_by(ROWS) {
        // SAFETY: as the caller says.
        unsafe {
            let mut column = 0;
            while column < panel.layout.in_fours {
                let fours = ((panel.layout.in_fours - column) / 4).min(2);
                match fours {
                    1 => multiply_fours::<K, 1>(panel, row, column),
                    _ => multiply_fours::<K, 2>(panel, row, column),
                }
                column += fours * 4;
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

/// Multiplies the rows from `row` on with `F` times four columns from `column` on.
///
/// # Safety
/// The CPU has dot products, the panel, of `K`'s type, keeps its promises and has the row and the columns.
unsafe fn multiply_fours<K: Kernel, const F: usize>(panel: &Panel, row: usize, column: usize) {
    let mut fours = [panel.four(column); F];
    for (i, four) in fours.iter_mut().enumerate() {
        *four = panel.four(column + i * 4);
    }
    // SAFETY: rows and columns have these blocks.
    unsafe {
        let mut products = [[vdupq_n_f32(0.0); ROWS]; F];
        for first in (0..ROWS).step_by(K::ROWS_BY_FOURS) {
            let start = Rows::of(panel, row + first);
            let mut sums = [[vdupq_n_f32(0.0); ROWS]; F];
            for at in 0..panel.layout.k / K::BLOCK_LEN {
                let rows = start.skip(at * K::BLOCK_BYTES);
                K::multiply_fours(&rows, &fours, at, &mut sums);
            }
            for (products, sums) in products.iter_mut().zip(sums) {
                products[first..first + K::ROWS_BY_FOURS]
                    .copy_from_slice(&sums[..K::ROWS_BY_FOURS]);
            }
        }
        for (f, sums) in products.into_iter().enumerate() {
            for (c, sums) in transposed(sums).into_iter().enumerate() {
                store(panel, row, column + f * 4 + c, sums);
            }
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

/// Multiplies values in registers as [`multiply`] does, and nothing else; gives the number of operations.
pub(crate) fn multiply_in_registers(rounds: usize) -> usize {
    // SAFETY: each CPU has what it is for.
    unsafe { repeat::<Plain>(rounds) }
}

/// The same as the kernels does.
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
