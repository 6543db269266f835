//! What becomes of the whole totals of K-quants' groups: they begin with what weights stand above zero, take the groups'
//! scales, and then those of their super-block.

use std::arch::x86_64::*;

use super::k_quant::SuperBlock;
use super::tile::{Tile, spread};
use crate::activation::Column;

/// What the totals of a group begin with: as weights stand above zero, what they would be too large by, negative. Of the
/// columns' block `at`.
///
/// # Safety
/// The CPU is available; the columns have the block.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
pub(super) unsafe fn starts<B: SuperBlock, const C: usize>(
    columns: &[Column; C],
    at: usize,
    group: usize,
) -> [__m512i; C] {
    let mut starts = [_mm512_setzero_si512(); C];
    if B::ZERO == 0 {
        return starts;
    }
    for (start, column) in starts.iter_mut().zip(columns) {
        if B::GROUP == 16 {
            // SAFETY: by the caller's word.
            *start = unsafe { spread(column.sums.cast::<i32>().add(at * 16 + group)) };
            continue;
        }
        // SAFETY: by the caller's word.
        let sums = unsafe { spread(column.sums.cast::<i16>().add(at * 16 + group * 2)) };
        let zero = _mm512_set1_epi16(-B::ZERO as i16);
        *start = _mm512_dpwssd_epi32(*start, zero, sums);
    }
    starts
}

/// Adds the totals of a group, the tiles' `index`th, to the sums of their super-block.
///
/// # Safety
/// The CPU is available; the tiles have the group.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn add_group<const R: usize, const C: usize>(
    tiles: *const Tile,
    index: usize,
    totals: &[[__m512i; C]; R],
    scaled: &mut [[__m512; C]; R],
) {
    for r in 0..R {
        // SAFETY: by the caller's word.
        let scale = unsafe {
            *(&raw const (*tiles.add(r)).scales)
                .cast::<__m512>()
                .add(index)
        };
        for c in 0..C {
            let total = _mm512_cvtepi32_ps(totals[r][c]);
            scaled[r][c] = _mm512_fmadd_ps(total, scale, scaled[r][c]);
        }
    }
}

/// Adds the sums of a super-block, the tiles' `block`th, less its offsets, to `sums`. It meets the columns' block
/// `at`.
///
/// # Safety
/// The CPU is available; the tiles and the columns have the block.
#[target_feature(enable = "avx512f,avx512vnni,fma")]
#[inline]
pub(super) unsafe fn add_block<B: SuperBlock, const R: usize, const C: usize>(
    tiles: *const Tile,
    block: usize,
    columns: &[Column; C],
    at: usize,
    scaled: &[[__m512; C]; R],
    sums: &mut [[__m512; C]; R],
) {
    // SAFETY: by the caller's word.
    unsafe {
        let mut offsets = [[_mm512_setzero_si512(); C]; R];
        let pairs = 128 / B::SUMS_OF;
        for pair in 0..if B::ZERO == 0 { pairs } else { 0 } {
            for (c, column) in columns.iter().enumerate() {
                let sums = column.sums.cast::<i16>();
                let value_sums = spread(sums.add((at * pairs + pair) * 2));
                for (r, offsets) in offsets.iter_mut().enumerate() {
                    let offset = (*tiles.add(r)).offsets[block * pairs + pair];
                    offsets[c] = _mm512_dpwssd_epi32(offsets[c], offset, value_sums);
                }
            }
        }
        for r in 0..R {
            for (c, column) in columns.iter().enumerate() {
                let mut total = scaled[r][c];
                if B::ZERO == 0 {
                    let below = _mm512_cvtepi32_ps(offsets[r][c]);
                    let offset_scale = (*tiles.add(r)).offset_scales[block];
                    total = _mm512_fnmadd_ps(below, offset_scale, total);
                }
                let scale = _mm512_castsi512_ps(spread(column.scales.add(at)));
                sums[r][c] = _mm512_fmadd_ps(total, scale, sums[r][c]);
            }
        }
    }
}
