//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::isa::{Isa, sdot_rows};
use super::rows::{ROWS, Rows, sums_of_lanes};
use crate::activation::Column;

/// How a type packs its blocks. The scale comes first, as f16.
pub(super) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether an f16 to be added to each weight follows the scale.
    const MIN: bool = false;
    /// What an unpacked weight of zero stands at.
    const ZERO: f32 = 0.0;

    /// The first sixteen weights, and the others.
    ///
    /// # Safety
    /// Each row is valid for reading `BYTES`.
    unsafe fn unpack<const L: usize>(rows: &Rows<L>) -> [[int8x16_t; L]; 2];
}

/// The kernel of a [`Block`].
pub(super) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;
    type Tile = [[int8x16_t; ROWS]; 2];

    #[inline(always)]
    unsafe fn unpack(rows: &Rows<ROWS>, tile: *mut Self::Tile) {
        // SAFETY: by the caller's word.
        unsafe { tile.write(B::unpack(rows)) }
    }

    #[inline(always)]
    unsafe fn multiply<const C: usize>(
        tile: *const Self::Tile,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C] {
        // SAFETY: by the caller's word.
        unsafe {
            let zero = vdupq_n_s32(0);
            let mut totals = [[zero; 2]; C];
            for (piece, weights) in (*tile).iter().enumerate() {
                for (totals, column) in totals.iter_mut().zip(columns) {
                    let values = column.values.add(at * 32 + piece * 16);
                    totals[0] = sdot_rows(totals[0], weights, values);
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
            let mut totals = [[vdupq_n_s32(0); 2]; C];
            let weights = |r: usize| {
                let [[first], [second]] = B::unpack(&Rows([rows.0[r]]));
                [first, second]
            };
            let (a, b, c, d) = (weights(0), weights(1), weights(2), weights(3));
            for (totals, column) in totals.iter_mut().zip(columns) {
                let values = column.values.add(at * 32);
                let sums = |weights| I::block(weights, values);
                totals[0] = sums_of_lanes([sums(a), sums(b), sums(c), sums(d)]);
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
            let d = rows.floats(0);
            // What is added for each 1 of the values' sum.
            let offset = if B::MIN {
                rows.floats(2)
            } else {
                vmulq_n_f32(d, -B::ZERO)
            };
            for (c, column) in columns.iter().enumerate() {
                let mut total = vmulq_f32(vcvtq_f32_s32(totals[c][0]), d);
                if B::MIN || B::ZERO != 0.0 {
                    let values = column.sums.cast::<i32>().add(at).read_unaligned();
                    total = vfmaq_n_f32(total, offset, values as f32);
                }
                let scale = column.scales.add(at).read_unaligned();
                sums[c] = vfmaq_n_f32(sums[c], total, scale);
            }
        }
    }
}

/// The low halves of bytes, and the high ones.
#[inline(always)]
fn nibbles<const L: usize>(packed: [uint8x16_t; L]) -> [[uint8x16_t; L]; 2] {
    let mut both = [packed; 2];
    for i in 0..L {
        // SAFETY: each arm64 CPU has NEON.
        unsafe {
            both[0][i] = vandq_u8(packed[i], vdupq_n_u8(15));
            both[1][i] = vshrq_n_u8::<4>(packed[i]);
        }
    }
    both
}

/// Adds 16 to each weight whose fifth bit, of the 32 bits at byte `at` of each row, is set.
///
/// # Safety
/// Each row is valid for reading 4 bytes there.
#[inline(always)]
unsafe fn add_fifth_bits<const L: usize>(
    rows: &Rows<L>,
    at: usize,
    weights: [[uint8x16_t; L]; 2],
) -> [[uint8x16_t; L]; 2] {
    let mut weights = weights;
    // SAFETY: by the caller's word.
    unsafe {
        let mut bits = [0; L];
        for (bits, row) in bits.iter_mut().zip(rows.0) {
            *bits = row.add(at).cast::<u32>().read_unaligned();
        }
        for (half, weights) in weights.iter_mut().enumerate() {
            for (i, weights) in weights.iter_mut().enumerate() {
                let set = if L == 1 {
                    // Each of two bytes eight times over.
                    let bits = vreinterpretq_u8_u32(vdupq_n_u32(bits[0]));
                    let byte = |j: u64| vcreate_u8((half as u64 * 2 + j) * 0x0101_0101_0101_0101);
                    let bytes = vqtbl1q_u8(bits, vcombine_u8(byte(0), byte(1)));
                    vtstq_u8(
                        bytes,
                        vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201)),
                    )
                } else {
                    // In each lane the four bits of its row's next four weights.
                    let mut lanes = [0u32; ROWS];
                    lanes[..L].copy_from_slice(&bits);
                    let lanes = vld1q_u32(lanes.as_ptr());
                    let lanes = vshlq_u32(lanes, vdupq_n_s32(-((half * 16 + i * 4) as i32)));
                    let bytes = vmulq_n_u32(vandq_u32(lanes, vdupq_n_u32(15)), 0x0101_0101);
                    let which_bit = vreinterpretq_u8_u32(vdupq_n_u32(0x0804_0201));
                    vtstq_u8(vreinterpretq_u8_u32(bytes), which_bit)
                };
                *weights = vorrq_u8(*weights, vandq_u8(set, vdupq_n_u8(16)));
            }
        }
    }
    weights
}

#[inline(always)]
fn signed<const L: usize>([low, high]: [[uint8x16_t; L]; 2]) -> [[int8x16_t; L]; 2] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let mut weights = [[vdupq_n_s8(0); L]; 2];
        for i in 0..L {
            weights[0][i] = vreinterpretq_s8_u8(low[i]);
            weights[1][i] = vreinterpretq_s8_u8(high[i]);
        }
        weights
    }
}

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(super) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const ZERO: f32 = 8.0;

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>) -> [[int8x16_t; L]; 2] {
        // SAFETY: the weights begin after the scale.
        signed(nibbles(unsafe { rows.load(2) }))
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(super) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>) -> [[int8x16_t; L]; 2] {
        // SAFETY: the weights begin after scale and minimum.
        signed(nibbles(unsafe { rows.load(4) }))
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(super) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 22;
    const ZERO: f32 = 16.0;

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>) -> [[int8x16_t; L]; 2] {
        // SAFETY: bits and weights follow the scale.
        signed(unsafe { add_fifth_bits(rows, 2, nibbles(rows.load(6))) })
    }
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(super) struct Q5_1;

impl Block for Q5_1 {
    const BYTES: usize = 24;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>) -> [[int8x16_t; L]; 2] {
        // SAFETY: bits and weights follow scale and minimum.
        signed(unsafe { add_fifth_bits(rows, 4, nibbles(rows.load(8))) })
    }
}

/// f16 scale, 32 signed bytes.
pub(super) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    unsafe fn unpack<const L: usize>(rows: &Rows<L>) -> [[int8x16_t; L]; 2] {
        // SAFETY: the weights begin after the scale.
        signed(unsafe { [rows.load(2), rows.load(18)] })
    }
}
