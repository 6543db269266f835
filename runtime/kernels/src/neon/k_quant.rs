//! Q4_K, Q5_K and Q6_K: 256 weights in groups with small whole scales.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::isa::{Isa, differences, sdot_rows};
use super::rows::{ROWS, Rows, sums_of_lanes, transposed};
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(super) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Weights in a group: 32, within -31 to 31, or 16, within -32 to 31.
    const GROUP: usize;
    /// Where the f16 scale is.
    const SCALE: usize;
    /// Where the f16 scale of the groups' minimums is, if they have these.
    const MIN: Option<usize>;

    /// The weights of one half, of each row, sixteen by sixteen.
    ///
    /// # Safety
    /// Each row is valid for reading a super-block.
    unsafe fn unpack<const L: usize>(rows: &Rows<L>, half: usize) -> [[int8x16_t; L]; 8];

    /// The scales of each half's groups; of four, in the lower lanes.
    ///
    /// # Safety
    /// `block` is valid for reading a super-block.
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2];

    /// The minimums of eight groups.
    ///
    /// # Safety
    /// As [`SuperBlock::scales`].
    unsafe fn mins(block: *const u8) -> int16x8_t;
}

/// The kernel of a [`SuperBlock`].
pub(super) struct Of<B>(PhantomData<B>);

/// A super-block of four rows.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    weights: [[[int8x16_t; ROWS]; 8]; 2],
    /// Of each group, what its scale is greater than the next one's among four.
    differences: [int32x4_t; 16],
    mins: [int16x8_t; 4],
}

impl<B: SuperBlock> Kernel for Of<B> {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = B::BYTES;
    type Tile = Tile;

    #[inline(always)]
    unsafe fn unpack(rows: &Rows<ROWS>, tile: *mut Tile) {
        // SAFETY: by the caller's word.
        unsafe {
            let scales = rows.0.map(|row| B::scales(row));
            for half in 0..2 {
                (*tile).weights[half] = B::unpack(rows, half);
                let pairs = transposed(scales.map(|scales| differences(scales[half])));
                let groups = 128 / B::GROUP;
                for (i, pair) in pairs.into_iter().take(groups / 2).enumerate() {
                    let at = half * groups + i * 2;
                    (*tile).differences[at] = vmovl_s16(vget_low_s16(pair));
                    (*tile).differences[at + 1] = vmovl_high_s16(pair);
                }
            }
            if B::MIN.is_some() {
                (*tile).mins = transposed(rows.0.map(|row| B::mins(row)));
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<const C: usize>(
        tile: *const Tile,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C] {
        // SAFETY: by the caller's word.
        unsafe {
            let pieces = B::GROUP / 16;
            let mut totals = [[vdupq_n_s32(0); 2]; C];
            // Two chains of sums that go on through four groups each, so that neither waits for itself.
            for chains in (0..16 / pieces / 4).step_by(2) {
                let mut sums = [[vdupq_n_s32(0); C]; 2];
                for group in 0..4 {
                    for (chain, sums) in sums.iter_mut().enumerate() {
                        let group = (chains + chain) * 4 + group;
                        for piece in group * pieces..(group + 1) * pieces {
                            let weights = &(*tile).weights[piece / 8][piece % 8];
                            for (sums, column) in sums.iter_mut().zip(columns) {
                                let values = column.values.add(at * 256 + piece * 16);
                                *sums = sdot_rows(*sums, weights, values);
                            }
                        }
                        let difference = (*tile).differences[group];
                        for (total, sums) in totals.iter_mut().zip(sums) {
                            total[0] = vmlaq_s32(total[0], *sums, difference);
                        }
                    }
                }
            }
            if B::MIN.is_some() {
                let [a, b, c, d] = (*tile).mins;
                for (total, column) in totals.iter_mut().zip(columns) {
                    let sums = sums_of_32(column, at);
                    let below = vmull_laneq_s16::<0>(vget_low_s16(a), sums);
                    let below = vmlal_high_laneq_s16::<1>(below, a, sums);
                    let below = vmlal_laneq_s16::<2>(below, vget_low_s16(b), sums);
                    let below = vmlal_high_laneq_s16::<3>(below, b, sums);
                    let below = vmlal_laneq_s16::<4>(below, vget_low_s16(c), sums);
                    let below = vmlal_high_laneq_s16::<5>(below, c, sums);
                    let below = vmlal_laneq_s16::<6>(below, vget_low_s16(d), sums);
                    total[1] = vmlal_high_laneq_s16::<7>(below, d, sums);
                }
            }
            totals
        }
    }

    #[inline(always)]
    unsafe fn multiply_rows<I: Isa, const C: usize>(
        rows: &Rows<ROWS>,
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
        rows: &Rows<ROWS>,
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
            let weights = B::unpack(&Rows([row]), half).map(|[weights]| weights);
            for (totals, column) in totals.iter_mut().zip(columns) {
                let values = column.values.add(at * 256 + half * 128);
                totals[0] = if B::GROUP == 16 {
                    I::groups_of_16(&weights, values, scales, totals[0])
                } else {
                    I::groups_of_32(&weights, values, scales, totals[0])
                };
            }
        }
        if B::MIN.is_some() {
            let mins = B::mins(row);
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

/// Q4_K, and Q5_K if `FIVE`: f16 scale, f16 minimum, 12 bytes of scales and minimums of six bits, of Q5_K 32 bytes of
/// fifth bits, bit `g` for group `g`, then 128 bytes of two weights each.
pub(super) struct FourBit<const FIVE: bool>;

pub(super) type Q4K = Of<FourBit<false>>;
pub(super) type Q5K = Of<FourBit<true>>;

impl<const FIVE: bool> SuperBlock for FourBit<FIVE> {
    const BYTES: usize = if FIVE { 176 } else { 144 };
    const GROUP: usize = 32;
    const SCALE: usize = 0;
    const MIN: Option<usize> = Some(2);

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>, half: usize) -> [[int8x16_t; L]; 8] {
        // SAFETY: each read is within the super-block.
        unsafe {
            let mut weights = [[vdupq_n_s8(0); L]; 8];
            for side in 0..2 {
                let fifth = if FIVE {
                    rows.load(16 + side * 16)
                } else {
                    [vdupq_n_u8(0); L]
                };
                for pair in 0..2 {
                    let low = if FIVE { 48 } else { 16 };
                    let packed = rows.load(low + half * 64 + pair * 32 + side * 16);
                    for i in 0..L {
                        let mut both = [
                            vandq_u8(packed[i], vdupq_n_u8(15)),
                            vshrq_n_u8::<4>(packed[i]),
                        ];
                        for (odd, unpacked) in both.iter_mut().enumerate() {
                            let group = pair * 2 + odd;
                            if FIVE {
                                let bit = vdupq_n_u8(1 << (half * 4 + group));
                                let set = vtstq_u8(fifth[i], bit);
                                *unpacked = vorrq_u8(*unpacked, vandq_u8(set, vdupq_n_u8(16)));
                            }
                            weights[group * 2 + side][i] = vreinterpretq_s8_u8(*unpacked);
                        }
                    }
                }
            }
            weights
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: by the caller's word.
        let [a, _, c] = unsafe { small_numbers(block) };
        let upper = c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4;
        let scales = wide(a & 0x3f3f_3f3f, upper);
        // SAFETY: each arm64 CPU has NEON.
        [scales, unsafe { vextq_s16::<4>(scales, scales) }]
    }

    #[inline(always)]
    unsafe fn mins(block: *const u8) -> int16x8_t {
        // SAFETY: by the caller's word.
        let [_, b, c] = unsafe { small_numbers(block) };
        let upper = c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4;
        wide(b & 0x3f3f_3f3f, upper)
    }
}

/// The twelve bytes of scales and minimums.
///
/// # Safety
/// `block` is valid for reading a super-block.
#[inline(always)]
unsafe fn small_numbers(block: *const u8) -> [u32; 3] {
    // SAFETY: by the caller's word.
    [0, 1, 2].map(|i| unsafe { block.add(4).cast::<u32>().add(i).read_unaligned() })
}

/// Eight bytes as 16-bit numbers.
#[inline(always)]
fn wide(low: u32, high: u32) -> int16x8_t {
    let bytes = u64::from(high) << 32 | u64::from(low);
    // SAFETY: each arm64 CPU has NEON.
    unsafe { vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(bytes))) }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(super) struct SixBit;

pub(super) type Q6K = Of<SixBit>;

impl SuperBlock for SixBit {
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const SCALE: usize = 208;
    const MIN: Option<usize> = None;

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>, half: usize) -> [[int8x16_t; L]; 8] {
        // SAFETY: each read is within the super-block.
        unsafe {
            let nibble = vdupq_n_u8(15);
            let two_bits = vdupq_n_u8(0x30);
            let mut weights = [[vdupq_n_s8(0); L]; 8];
            for side in 0..2 {
                let high = rows.load(128 + half * 32 + side * 16);
                let even = rows.load(half * 64 + side * 16);
                let odd = rows.load(half * 64 + 32 + side * 16);
                for i in 0..L {
                    let quarters = [
                        (vandq_u8(even[i], nibble), vshlq_n_u8::<4>(high[i])),
                        (vandq_u8(odd[i], nibble), vshlq_n_u8::<2>(high[i])),
                        (vshrq_n_u8::<4>(even[i]), high[i]),
                        (vshrq_n_u8::<4>(odd[i]), vshrq_n_u8::<2>(high[i])),
                    ];
                    for (quarter, (low, high)) in quarters.into_iter().enumerate() {
                        let unpacked = vbslq_u8(two_bits, high, low);
                        weights[quarter * 2 + side][i] =
                            vsubq_s8(vreinterpretq_s8_u8(unpacked), vdupq_n_s8(32));
                    }
                }
            }
            weights
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: by the caller's word.
        unsafe {
            let scales = vld1q_s8(block.add(192).cast());
            [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)]
        }
    }

    #[inline(always)]
    unsafe fn mins(_: *const u8) -> int16x8_t {
        // SAFETY: each arm64 CPU has NEON.
        unsafe { vdupq_n_s16(0) }
    }
}
