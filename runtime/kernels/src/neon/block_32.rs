//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::isa::Isa;
use super::rows::{ROWS, Rows, sums_of_lanes};
use super::source::Source;
use super::tile::{Tile, WHOLE};
use crate::activation::Column;
use crate::rounding;

/// How a type packs its blocks. The scale comes first, as f16.
pub(crate) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether an f16 to be added to each weight follows the scale.
    const MIN: bool = false;
    /// What an unpacked weight of zero stands at.
    const ZERO: i32 = 0;

    /// The first sixteen weights, and the others.
    ///
    /// # Safety
    /// `block` is valid for reading `BYTES`.
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2];
}

/// The kernel of a [`Block`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;
    const ROWS_OF_TILE: usize = ROWS;
    const ZERO: i32 = B::ZERO;

    #[inline(always)]
    unsafe fn multiply_rows<I: Isa, const C: usize>(
        rows: &Rows,
        columns: &[Column; C],
        at: usize,
    ) -> [[int32x4_t; 2]; C] {
        // SAFETY: by the caller's word.
        unsafe {
            let mut totals = [[vdupq_n_s32(0); 2]; C];
            let [a, b, c, d] = unpacked::<B>(rows);
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
        rows: &Rows,
        totals: [[int32x4_t; 2]; C],
        columns: &[Column; C],
        at: usize,
        sums: &mut [float32x4_t; C],
    ) {
        // SAFETY: by the caller's word.
        unsafe {
            let d = rows.floats(0);
            for (c, column) in columns.iter().enumerate() {
                let mut total = totals[c][0];
                if B::MIN {
                    let sum = column.sums.cast::<f32>().add(at).read_unaligned();
                    sums[c] = vfmaq_n_f32(sums[c], rows.floats(2), sum);
                } else if B::ZERO != 0 {
                    let sum = column.sums.cast::<i32>().add(at).read_unaligned();
                    total = vsubq_s32(total, vdupq_n_s32(B::ZERO * sum));
                }
                let total = vmulq_f32(vcvtq_f32_s32(total), d);
                let scale = column.scales.add(at).read_unaligned();
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
            let d = T::of_rows(rows.floats(0));
            let min = if B::MIN {
                T::of_rows(rows.floats(2))
            } else {
                d
            };
            let [a, b, c, e] = rows.0;
            let ((a, b), (c, e)) = (T::sources([a, b]), T::sources([c, e]));
            let (a, b, c, e) = (B::unpack(a), B::unpack(b), B::unpack(c), B::unpack(e));
            let first = [[a[0], b[0]], [c[0], e[0]]];
            let others = [[a[1], b[1]], [c[1], e[1]]];
            let whole = vdupq_n_f32(rounding::WHOLE);
            for f in 0..F {
                let values = columns[f].values.add(at * 32 * T::COLUMNS);
                let totals = [[WHOLE.load(); N], [WHOLE.load(); N]];
                let totals = T::four_rows::<0>(totals, first, values);
                let totals = T::four_rows::<1>(totals, others, values);
                let scales = vld1q_f32(columns[f].scales.add(at * 4));
                let kept = vld1q_f32(columns[f].sums.cast::<f32>().add(at * 4));
                for half in 0..2 {
                    for i in 0..N {
                        let mut sum = sums[f][half][i];
                        let total = vreinterpretq_f32_s32(totals[half][i]);
                        let less = if B::MIN {
                            sum = vfmaq_f32(sum, kept, min[half][i]);
                            whole
                        } else {
                            kept
                        };
                        let total = vmulq_f32(vsubq_f32(total, less), d[half][i]);
                        sums[f][half][i] = vfmaq_f32(sum, total, scales);
                    }
                }
            }
        }
    }
}

/// The weights of four rows.
///
/// # Safety
/// Each row is valid for reading a block.
#[inline(always)]
unsafe fn unpacked<B: Block>(rows: &Rows) -> [[int8x16_t; 2]; ROWS] {
    let [a, b, c, d] = rows.0;
    // SAFETY: by the caller's word. Spelled out, as what a loop goes through would be kept in memory.
    unsafe { [B::unpack(a), B::unpack(b), B::unpack(c), B::unpack(d)] }
}

/// The low halves of the sixteen bytes at `packed`, and the high ones.
///
/// # Safety
/// They are valid for reading.
#[inline(always)]
pub(super) fn nibbles(packed: uint8x16_t) -> [uint8x16_t; 2] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)] }
}

/// In each byte, whether the bit of its own, of the 32 bits at `bits`, is set.
///
/// # Safety
/// `bits` is valid for reading 4 bytes.
#[inline(always)]
fn set([low, high]: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let which = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        [vtstq_u8(low, which), vtstq_u8(high, which)]
    }
}

#[inline(always)]
fn signed([low, high]: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)] }
}

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const ZERO: i32 = 8;

    #[inline(always)]
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after the scale.
        signed(nibbles(unsafe { block.load(2) }))
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after scale and minimum.
        signed(nibbles(unsafe { block.load(4) }))
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 22;

    #[inline(always)]
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2] {
        // SAFETY: bits and weights follow the scale.
        unsafe {
            let (low, set) = (nibbles(block.load(6)), set(block.bits(2)));
            // The upper half of a byte is all ones, a negative weight, where the bit is not set.
            let upper = vdupq_n_u8(0xf0);
            signed([
                vorrq_u8(low[0], vbicq_u8(upper, set[0])),
                vorrq_u8(low[1], vbicq_u8(upper, set[1])),
            ])
        }
    }
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const BYTES: usize = 24;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2] {
        // SAFETY: bits and weights follow scale and minimum.
        unsafe {
            let (low, set) = (nibbles(block.load(8)), set(block.bits(4)));
            let sixteen = vdupq_n_u8(16);
            signed([
                vorrq_u8(low[0], vandq_u8(sixteen, set[0])),
                vorrq_u8(low[1], vandq_u8(sixteen, set[1])),
            ])
        }
    }
}

/// f16 scale, 32 signed bytes.
pub(crate) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after the scale.
        signed(unsafe { [block.load(2), block.load(18)] })
    }
}
