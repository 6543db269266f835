//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::fours::{WHOLE, four_by_four};
use super::isa::Isa;
use super::rows::{ROWS, Rows, sums_of_lanes};
use crate::activation::{self, Column};

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
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2];
}

/// The kernel of a [`Block`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: Block> Kernel for Of<B> {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;
    const ROWS_BY_FOURS: usize = ROWS;
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
    unsafe fn multiply_fours<const F: usize>(
        rows: &Rows,
        fours: &[Column; F],
        at: usize,
        sums: &mut [[float32x4_t; ROWS]; F],
    ) {
        // SAFETY: by the caller's word.
        unsafe {
            let d = rows.floats(0);
            let min = if B::MIN { rows.floats(2) } else { d };
            let [a, b, c, e] = unpacked::<B>(rows);
            let four = |four: &Column, sums: [float32x4_t; ROWS]| {
                let values = four.values.add(at * 128);
                let totals = [WHOLE.load(), WHOLE.load(), WHOLE.load(), WHOLE.load()];
                let totals = four_by_four::<0>(totals, [a[0], b[0], c[0], e[0]], values);
                let totals = four_by_four::<64>(totals, [a[1], b[1], c[1], e[1]], values);
                let scales = vld1q_f32(four.scales.add(at * 4));
                let kept = vld1q_f32(four.sums.cast::<f32>().add(at * 4));
                let whole = vdupq_n_f32(activation::WHOLE);
                macro_rules! add {
                    ($row:literal, $total:expr) => {{
                        let total = vreinterpretq_f32_s32($total);
                        if B::MIN {
                            let total = vmulq_laneq_f32::<$row>(vsubq_f32(total, whole), d);
                            let sum = vfmaq_laneq_f32::<$row>(sums[$row], kept, min);
                            vfmaq_f32(sum, total, scales)
                        } else {
                            let total = vmulq_laneq_f32::<$row>(vsubq_f32(total, kept), d);
                            vfmaq_f32(sums[$row], total, scales)
                        }
                    }};
                }
                let [a, b, c, e] = totals;
                [add!(0, a), add!(1, b), add!(2, c), add!(3, e)]
            };
            sums[0] = four(&fours[0], sums[0]);
            if F > 1 {
                sums[1] = four(&fours[1], sums[1]);
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
pub(super) unsafe fn nibbles(packed: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: by the caller's word.
    unsafe {
        let packed = vld1q_u8(packed);
        [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)]
    }
}

/// In each byte, whether the bit of its own, of the 32 bits at `bits`, is set.
///
/// # Safety
/// `bits` is valid for reading 4 bytes.
#[inline(always)]
unsafe fn fifth_bits(bits: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: by the caller's word.
    unsafe {
        let bits = vreinterpretq_u8_u32(vdupq_n_u32(bits.cast::<u32>().read_unaligned()));
        // Each of two bytes eight times over.
        let byte = |i: u64| vcreate_u8(i * 0x0101_0101_0101_0101);
        let which = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        let set = |i| vtstq_u8(vqtbl1q_u8(bits, vcombine_u8(byte(i), byte(i + 1))), which);
        [set(0), set(2)]
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
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after the scale.
        signed(unsafe { nibbles(block.add(2)) })
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after scale and minimum.
        signed(unsafe { nibbles(block.add(4)) })
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 22;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: bits and weights follow the scale.
        unsafe {
            let (low, set) = (nibbles(block.add(6)), fifth_bits(block.add(2)));
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
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: bits and weights follow scale and minimum.
        unsafe {
            let (low, set) = (nibbles(block.add(8)), fifth_bits(block.add(4)));
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
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after the scale.
        unsafe {
            [
                vld1q_s8(block.add(2).cast()),
                vld1q_s8(block.add(18).cast()),
            ]
        }
    }
}
