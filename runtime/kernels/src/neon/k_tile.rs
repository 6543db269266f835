//! Whole sums of super-blocks of two rows, with columns that lie side by side.

use std::arch::aarch64::*;

use super::k_quant::SuperBlock;
use super::tile::{Tile, ZERO, ZEROS};
use crate::activation::Column;

/// The sums of a super-block of two rows, with each of `F` times columns side by side.
///
/// # Safety
/// As [`Kernel::multiply_tile`](super::Kernel::multiply_tile).
#[inline(always)]
pub(super) unsafe fn two_rows<B: SuperBlock, T: Tile<N>, const N: usize, const F: usize>(
    [a, b]: [*const u8; 2],
    columns: &[Column; F],
    at: usize,
) -> [[int32x4_t; N]; F] {
    // SAFETY: by the caller's word.
    unsafe {
        let mut totals = [[vdupq_n_s32(0); N]; F];
        let scales = [B::scales(a), B::scales(b)];
        macro_rules! quarter {
            ($q:literal) => {
                let (a, b) = T::sources([a, b]);
                let (a, b) = (B::unpack(a, $q), B::unpack(b, $q));
                let [w0, w1] = [[a[0], b[0]], [a[1], b[1]]];
                let [w2, w3] = [[a[2], b[2]], [a[3], b[3]]];
                let scales = T::scales(
                    of_quarter::<B>(scales[0], $q),
                    of_quarter::<B>(scales[1], $q),
                );
                let add = |column: &Column, totals| {
                    let values = at * 256 + place::<B>($q) * 16;
                    let values = column.values.add(values * T::COLUMNS);
                    if B::GROUP == 16 {
                        let starts = if B::ZERO == 0 {
                            ZEROS.as_ptr().cast()
                        } else {
                            column.sums.add(at * 256 + place::<B>($q) * 16)
                        };
                        let totals = T::group_of_16::<0>(totals, w0, values, starts, scales);
                        let totals = T::group_of_16::<1>(totals, w1, values, starts, scales);
                        let totals = T::group_of_16::<2>(totals, w2, values, starts, scales);
                        T::group_of_16::<3>(totals, w3, values, starts, scales)
                    } else if $q % 2 == 0 {
                        let totals = T::group_of_32::<0>(totals, [w0, w1], values, scales);
                        T::group_of_32::<1>(totals, [w2, w3], values, scales)
                    } else {
                        let totals = T::group_of_32::<2>(totals, [w0, w1], values, scales);
                        T::group_of_32::<3>(totals, [w2, w3], values, scales)
                    }
                };
                for f in 0..F {
                    totals[f] = add(&columns[f], totals[f]);
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

/// The minimums of two rows times the sums of the values of columns side by side.
///
/// # Safety
/// As [`Kernel::multiply_tile`](super::Kernel::multiply_tile).
#[inline(always)]
pub(super) unsafe fn below<B: SuperBlock, T: Tile<N>, const N: usize>(
    [a, b]: [[uint8x8_t; 2]; 2],
    columns: &Column,
    at: usize,
) -> [int32x4_t; N] {
    // SAFETY: by the caller's word: of each column there are eight or sixteen sums, in two bytes each.
    unsafe {
        let sums = columns.sums.cast::<i8>().add(at * 32 * T::COLUMNS);
        let (first, others) = ([a[0], b[0]], [a[1], b[1]]);
        // Each loaded anew: they would be copied.
        let nothing = || [(); N].map(|()| ZERO.load());
        let mut low = T::eight::<0>(nothing(), first, sums);
        let high = if B::GROUP == 16 {
            low = T::eight::<1>(low, others, sums);
            T::eight::<3>(T::eight::<2>(nothing(), first, sums), others, sums)
        } else {
            T::eight::<1>(nothing(), first, sums)
        };
        for (low, high) in low.iter_mut().zip(high) {
            *low = vaddq_s32(*low, vshlq_n_s32::<7>(high));
        }
        low
    }
}

/// Which sixteen of a super-block's weights the first unpacked ones of a quarter are.
#[inline(always)]
const fn place<B: SuperBlock>(quarter: usize) -> usize {
    if B::GROUP == 16 {
        quarter / 2 * 8 + quarter % 2
    } else {
        quarter * 4
    }
}

/// The scales of a quarter's groups of 16, or those of a half's groups of 32, in the lower lanes.
#[inline(always)]
fn of_quarter<B: SuperBlock>(scales: [int16x8_t; 2], quarter: usize) -> int16x8_t {
    let scales = scales[quarter / 2];
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        match (B::GROUP, quarter % 2) {
            (16, 0) => vuzp1q_s16(scales, scales),
            (16, _) => vuzp2q_s16(scales, scales),
            _ => scales,
        }
    }
}
