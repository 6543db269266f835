//! Whole sums of super-blocks of two rows, with columns that lie side by side in fours.

use std::arch::aarch64::*;

use super::fours::{ZERO, ZEROS, eight_by_four, group_of_16_by_four, group_of_32_by_four};
use super::k_quant::SuperBlock;
use crate::activation::Column;

/// The sums of a super-block of two rows: for each four, of each row.
///
/// # Safety
/// As [`Kernel::multiply_fours`](super::Kernel::multiply_fours).
#[inline(always)]
pub(super) unsafe fn two_rows_by_fours<B: SuperBlock, const F: usize>(
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
                        let starts = if B::ZERO == 0 {
                            ZEROS.as_ptr().cast()
                        } else {
                            column.sums.add(at * 256 + place::<B>($q, 0) * 16)
                        };
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
/// As [`Kernel::multiply_fours`](super::Kernel::multiply_fours).
#[inline(always)]
pub(super) unsafe fn below_by_four<B: SuperBlock>(
    [a, b]: [[uint8x8_t; 2]; 2],
    four: &Column,
    at: usize,
) -> [int32x4_t; 2] {
    // SAFETY: by the caller's word: of each of four columns there are eight or sixteen sums, in two bytes each.
    unsafe {
        let sums = four.sums.cast::<i8>().add(at * 128);
        let (first, others) = ([a[0], b[0]], [a[1], b[1]]);
        let nothing = || [ZERO.load(), ZERO.load()];
        let mut low = eight_by_four::<0>(nothing(), first, sums);
        let [high_a, high_b] = if B::GROUP == 16 {
            low = eight_by_four::<32>(low, others, sums);
            let high = eight_by_four::<64>(nothing(), first, sums);
            eight_by_four::<96>(high, others, sums)
        } else {
            eight_by_four::<32>(nothing(), first, sums)
        };
        let [low_a, low_b] = low;
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
