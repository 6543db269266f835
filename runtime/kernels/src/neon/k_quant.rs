//! Super-blocks: 256 weights in groups with small whole scales. A type says how they are unpacked; the rest is the same
//! for all.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::fours::{ZERO, eight_by_four, group_of_16_by_four, group_of_32_by_four};
use super::isa::Isa;
use super::rows::{ROWS, Rows, sums_of_lanes};
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(crate) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Weights in a group: 32, unpacked to 0 to 31, or 16, unpacked to 0 to 63, where 32 is zero.
    const GROUP: usize;
    /// Where the f16 scale is.
    const SCALE: usize;
    /// Where the f16 scale of the groups' minimums is, if they have these.
    const MIN: Option<usize>;

    /// Sixty-four weights that are packed together, sixteen by sixteen: two groups of 32, or of a half's eight groups
    /// of 16 all even ones, or all odd ones.
    ///
    /// # Safety
    /// `block` is valid for reading a super-block.
    unsafe fn unpack(block: *const u8, quarter: usize) -> [int8x16_t; 4];

    /// The scales of each half's groups; of four, in the lower lanes.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack`].
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2];

    /// The minimums of eight groups.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack`].
    unsafe fn mins(block: *const u8) -> uint8x8_t;
}

/// The kernel of a [`SuperBlock`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: SuperBlock> Kernel for Of<B> {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = B::BYTES;
    // With eight columns, the registers hold no more.
    const ROWS_BY_FOURS: usize = 2;
    const ZERO: i32 = if B::GROUP == 16 { 32 } else { 0 };

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
            let d = rows.floats(B::SCALE);
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
    unsafe fn multiply_fours<const F: usize>(
        rows: &Rows,
        fours: &[Column; F],
        at: usize,
        sums: &mut [[float32x4_t; ROWS]; F],
    ) {
        // SAFETY: by the caller's word.
        unsafe {
            let d = rows.floats(B::SCALE);
            let min = B::MIN.map_or(d, |at| rows.floats(at));
            let totals = two_rows_by_fours::<B, F>([rows.0[0], rows.0[1]], fours, at);
            let four = |f: usize, sums: &mut [float32x4_t; ROWS]| {
                let scales = vld1q_f32(fours[f].scales.add(at * 4));
                let [a, b] = totals[f];
                let mut a = vmulq_laneq_f32::<0>(vcvtq_f32_s32(a), d);
                let mut b = vmulq_laneq_f32::<1>(vcvtq_f32_s32(b), d);
                if B::MIN.is_some() {
                    let mins = [B::mins(rows.0[0]), B::mins(rows.0[1])];
                    let [below_a, below_b] = below_by_four(mins, &fours[f], at);
                    a = vfmsq_laneq_f32::<0>(a, vcvtq_f32_s32(below_a), min);
                    b = vfmsq_laneq_f32::<1>(b, vcvtq_f32_s32(below_b), min);
                }
                sums[0] = vfmaq_f32(sums[0], a, scales);
                sums[1] = vfmaq_f32(sums[1], b, scales);
            };
            four(0, &mut sums[0]);
            if F > 1 {
                four(1, &mut sums[1]);
            }
        }
    }
}

/// The sums of a super-block of two rows: for each four, of each row.
///
/// # Safety
/// As [`Kernel::multiply_fours`].
#[inline(always)]
unsafe fn two_rows_by_fours<B: SuperBlock, const F: usize>(
    [a, b]: [*const u8; 2],
    fours: &[Column; F],
    at: usize,
) -> [[int32x4_t; 2]; F] {
    // SAFETY: by the caller's word.
    unsafe {
        let mut totals = [[vdupq_n_s32(0); 2]; F];
        let scales = [B::scales(a), B::scales(b)];
        macro_rules! quarter {
            ($q:literal) => {
                let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (B::unpack(a, $q), B::unpack(b, $q));
                let scales = [
                    of_quarter::<B>(scales[0], $q),
                    of_quarter::<B>(scales[1], $q),
                ];
                let four = |column: &Column, totals| {
                    let values = column.values.add(at * 1024 + place::<B>($q, 0) * 64);
                    if B::GROUP == 16 {
                        let starts = column.sums.add(at * 256 + place::<B>($q, 0) * 16);
                        macro_rules! add {
                            ($totals:expr, $i:literal, $a:ident, $b:ident) => {
                                group_of_16_by_four::<$i, { $i * 128 }, { $i * 32 }>(
                                    $totals,
                                    [$a, $b],
                                    values,
                                    starts,
                                    scales,
                                )
                            };
                        }
                        let totals = add!(add!(totals, 0, a0, b0), 1, a1, b1);
                        add!(add!(totals, 2, a2, b2), 3, a3, b3)
                    } else {
                        const LANE: usize = $q % 2 * 2;
                        let weights = [[a0, b0], [a1, b1]];
                        let totals =
                            group_of_32_by_four::<LANE, 0>(totals, weights, values, scales);
                        let weights = [[a2, b2], [a3, b3]];
                        group_of_32_by_four::<{ LANE + 1 }, 128>(totals, weights, values, scales)
                    }
                };
                totals[0] = four(&fours[0], totals[0]);
                if F > 1 {
                    totals[1] = four(&fours[1], totals[1]);
                }
            };
        }
        quarter!(0);
        quarter!(1);
        quarter!(2);
        quarter!(3);
        totals
    }
}

/// The minimums of two rows times the sums of four columns' values.
///
/// # Safety
/// As [`Kernel::multiply_fours`].
#[inline(always)]
unsafe fn below_by_four(mins: [uint8x8_t; 2], four: &Column, at: usize) -> [int32x4_t; 2] {
    // SAFETY: by the caller's word: of each of four columns there are eight sums, in two bytes each.
    unsafe {
        let sums = four.sums.cast::<i8>().add(at * 128);
        let [low_a, low_b] = eight_by_four::<0>([ZERO.load(), ZERO.load()], mins, sums);
        let [high_a, high_b] = eight_by_four::<32>([ZERO.load(), ZERO.load()], mins, sums);
        [
            vaddq_s32(low_a, vshlq_n_s32::<7>(high_a)),
            vaddq_s32(low_b, vshlq_n_s32::<7>(high_b)),
        ]
    }
}

/// Which sixteen of a super-block's weights the unpacked ones of a quarter are.
#[inline(always)]
const fn place<B: SuperBlock>(quarter: usize, i: usize) -> usize {
    if B::GROUP == 16 {
        quarter / 2 * 8 + quarter % 2 + i * 2
    } else {
        quarter * 4 + i
    }
}

/// The scales of a quarter's groups of 16, or those of a half's groups of 32.
#[inline(always)]
fn of_quarter<B: SuperBlock>(scales: [int16x8_t; 2], quarter: usize) -> int32x4_t {
    let scales = scales[quarter / 2];
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        vmovl_s16(vget_low_s16(match (B::GROUP, quarter % 2) {
            (16, 0) => vuzp1q_s16(scales, scales),
            (16, _) => vuzp2q_s16(scales, scales),
            _ => scales,
        }))
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
                    let sums = vld1q_s16(column.sums.cast::<i16>().add(at * 16 + half * 8));
                    I::groups_of_16(&weights, values, sums, scales, totals[0])
                } else {
                    I::groups_of_32(&weights, values, scales, totals[0])
                };
            }
        }
        if B::MIN.is_some() {
            let mins = wide(B::mins(row));
            for (totals, column) in totals.iter_mut().zip(columns) {
                let sums = sums_of_32(column, at);
                let below = vmull_s16(vget_low_s16(sums), vget_low_s16(mins));
                totals[1] = vmlal_high_s16(below, sums, mins);
            }
        }
        totals
    }
}

/// The sums of each 32 values of a column's block.
///
/// # Safety
/// The column has the block.
#[inline(always)]
unsafe fn sums_of_32(column: &Column, at: usize) -> int16x8_t {
    // SAFETY: there are sixteen sums, of 16 values each.
    unsafe {
        let sums = column.sums.cast::<i16>().add(at * 16);
        vpaddq_s16(vld1q_s16(sums), vld1q_s16(sums.add(8)))
    }
}

/// Eight bytes as 16-bit numbers.
#[inline(always)]
pub(super) fn wide(bytes: uint8x8_t) -> int16x8_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { vreinterpretq_s16_u16(vmovl_u8(bytes)) }
}
