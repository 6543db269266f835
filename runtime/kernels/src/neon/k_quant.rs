//! Super-blocks: 256 weights in groups with small whole scales. A type says how they are unpacked; the rest is the same
//! for all.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::isa::Isa;
use super::k_tile::{below, two_rows};
use super::rows::{Rows, sums_of_lanes};
use super::source::Source;
use super::tile::Tile;
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(crate) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Weights in a group: 32, unpacked to 0 to 31, or 16, unpacked to 0 to 63.
    const GROUP: usize;
    /// What an unpacked weight of zero stands at, in groups of 16.
    const ZERO: i32 = 0;
    /// Whether weights, in groups of 32, are unpacked to any bytes.
    const BYTES_WIDE: bool = false;
    /// What an unpacked weight times its group's scale is too large by.
    const TIMES: f32 = 1.0;
    /// Where the f16 scale is.
    const SCALE: usize;
    /// Where the f16 scale of the groups' minimums is, if they have these.
    const MIN: Option<usize>;

    /// Sixty-four weights that are packed together, sixteen by sixteen: two groups of 32, or of a half's eight groups
    /// of 16 all even ones, or all odd ones.
    ///
    /// # Safety
    /// `block` is valid for reading a super-block.
    unsafe fn unpack(block: impl Source, quarter: usize) -> [int8x16_t; 4];

    /// The scales of each half's groups; of four, in the lower lanes.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack`].
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2];

    /// The minimums of the first eight groups, and those of the others, if there are so many.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack`].
    unsafe fn mins(_block: *const u8) -> [uint8x8_t; 2] {
        // SAFETY: each arm64 CPU has NEON.
        unsafe { [vdup_n_u8(0), vdup_n_u8(0)] }
    }

    /// The scale of all groups of each row.
    ///
    /// # Safety
    /// Each row is valid for reading a super-block.
    #[inline(always)]
    unsafe fn scale_of_all(rows: &Rows) -> float32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let d = rows.floats(Self::SCALE);
            if Self::TIMES == 1.0 {
                return d;
            }
            // A power of two: nothing is rounded.
            vmulq_n_f32(d, 1.0 / Self::TIMES)
        }
    }
}

/// The kernel of a [`SuperBlock`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: SuperBlock> Kernel for Of<B> {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = B::BYTES;
    // With eight columns, the registers hold no more.
    const ROWS_OF_TILE: usize = 2;
    const ZERO: i32 = B::ZERO;
    const SUMS_OF: usize = B::GROUP;

    #[inline(always)]
    unsafe fn multiply_rows<I: Isa, const C: usize>(
        rows: &Rows,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C] {
        // SAFETY: by the caller's word.
        unsafe {
            // Spelled out, as sums in an array that a loop goes through would be kept in memory.
            let [a, b, c, d] = rows.0;
            let a = multiply_row::<B, I, C>(a, columns, at);
            let b = multiply_row::<B, I, C>(b, columns, at);
            let c = multiply_row::<B, I, C>(c, columns, at);
            let d = multiply_row::<B, I, C>(d, columns, at);
            let mut totals = [[vdupq_n_s32(0); 2]; C];
            for (i, totals) in totals.iter_mut().enumerate() {
                totals[0] = sums_of_lanes([a[i][0], b[i][0], c[i][0], d[i][0]]);
                if B::MIN.is_some() {
                    totals[1] = sums_of_lanes([a[i][1], b[i][1], c[i][1], d[i][1]]);
                }
            }
            totals
        }
    }

    #[inline(always)]
    unsafe fn add<const C: usize>(
        rows: &Rows,
        totals: [[int32x4_t; 2]; C],
        columns: &[Column; C],
        at: usize,
        sums: &mut [float32x4_t; C],
    ) {
        // SAFETY: by the caller's word.
        unsafe {
            let d = B::scale_of_all(rows);
            let min = B::MIN.map(|at| rows.floats(at));
            for (c, [total, below]) in totals.into_iter().enumerate() {
                let mut total = vmulq_f32(vcvtq_f32_s32(total), d);
                if let Some(min) = min {
                    total = vfmsq_f32(total, vcvtq_f32_s32(below), min);
                }
                let scale = columns[c].scales.add(at).read_unaligned();
                sums[c] = vfmaq_n_f32(sums[c], total, scale);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_tile<T: Tile<N>, const N: usize, const F: usize>(
        rows: &Rows,
        columns: &[Column; F],
        at: usize,
        sums: &mut [[[float32x4_t; N]; 2]; F],
    ) {
        // SAFETY: by the caller's word.
        unsafe {
            let [d, _] = T::of_rows(B::scale_of_all(rows));
            let min = B::MIN.map(|at| T::of_rows(rows.floats(at))[0]);
            let totals = two_rows::<B, T, N, F>([rows.0[0], rows.0[1]], columns, at);
            for f in 0..F {
                let scales = vld1q_f32(columns[f].scales.add(at * 4));
                let below = match min {
                    Some(_) => {
                        let mins = [B::mins(rows.0[0]), B::mins(rows.0[1])];
                        below::<B, T, N>(mins, &columns[f], at)
                    }
                    None => totals[f],
                };
                for i in 0..N {
                    let mut total = vmulq_f32(vcvtq_f32_s32(totals[f][i]), d[i]);
                    if let Some(min) = min {
                        total = vfmsq_f32(total, vcvtq_f32_s32(below[i]), min[i]);
                    }
                    sums[f][0][i] = vfmaq_f32(sums[f][0][i], total, scales);
                }
            }
        }
    }
}

/// The sums of one row, in four parts each.
///
/// # Safety
/// As [`Kernel::multiply_rows`].
#[inline(always)]
unsafe fn multiply_row<B: SuperBlock, I: Isa, const C: usize>(
    row: *const u8,
    columns: &[Column; C],
    at: usize,
) -> [[int32x4_t; 2]; C] {
    // SAFETY: by the caller's word.
    unsafe {
        let mut totals = [[vdupq_n_s32(0); 2]; C];
        for (half, scales) in B::scales(row).into_iter().enumerate() {
            let [a, b, c, d] = B::unpack(row, half * 2);
            let [e, f, g, h] = B::unpack(row, half * 2 + 1);
            let weights = if B::GROUP == 16 {
                [a, e, b, f, c, g, d, h]
            } else {
                [a, b, c, d, e, f, g, h]
            };
            for (totals, column) in totals.iter_mut().zip(columns) {
                let values = column.values.add(at * 256 + half * 128);
                totals[0] = if B::GROUP == 16 {
                    if B::ZERO != 0 {
                        let sums = vld1q_s16(column.sums.cast::<i16>().add(at * 16 + half * 8));
                        let less = vmulq_n_s16(scales, -B::ZERO as i16);
                        totals[0] = times(totals[0], sums, less);
                    }
                    I::groups_of_16(&weights, values, scales, totals[0])
                } else if B::BYTES_WIDE {
                    I::groups_of_32_bytes(&weights, values, scales, totals[0])
                } else {
                    I::groups_of_32(&weights, values, scales, totals[0])
                };
            }
        }
        if B::MIN.is_some() {
            let [first, others] = B::mins(row).map(wide);
            for (totals, column) in totals.iter_mut().zip(columns) {
                let sums = column.sums.cast::<i16>().add(at * 256 / B::GROUP);
                totals[1] = times(totals[1], vld1q_s16(sums), first);
                if B::GROUP == 16 {
                    totals[1] = times(totals[1], vld1q_s16(sums.add(8)), others);
                }
            }
        }
        totals
    }
}

/// `total` and the products of `a` and `b`.
#[inline(always)]
fn times(total: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { vmlal_high_s16(vmlal_s16(total, vget_low_s16(a), vget_low_s16(b)), a, b) }
}

/// Eight bytes as 16-bit numbers.
#[inline(always)]
pub(super) fn wide(bytes: uint8x8_t) -> int16x8_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { vreinterpretq_s16_u16(vmovl_u8(bytes)) }
}
