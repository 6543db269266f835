//! Blocks of 32 weights with a scale, Q4_0 to Q8_0. A type says how a block is unpacked; the rest is
//! the same for all.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::half;
use super::isa::Isa;
use crate::activation::Column;
use crate::panel::RowKernel;

/// How a type packs its blocks. The scale comes first, as f16.
pub(super) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether an f16 to be added to each weight follows the scale.
    const MIN: bool = false;
    /// What an unpacked weight of zero stands at.
    const ZERO: f32 = 0.0;

    /// The 32 weights.
    ///
    /// # Safety
    /// `block` is valid for reading `BYTES`.
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2];
}

/// The kernel of a [`Block`] with an instruction set.
pub(super) struct Of<B, I>(PhantomData<(B, I)>);

impl<B: Block, I: Isa> RowKernel for Of<B, I> {
    #[inline(always)]
    unsafe fn dot<const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [f32; N] {
        // SAFETY: the row has `count` blocks from `first` on, and the columns have their values; scales and sums of
        // columns are filled up to eight.
        unsafe {
            // Additions would wait for each other: every second block has sums of its own.
            let mut sums = [vdupq_n_f32(0.0); N];
            let mut odd_sums = [vdupq_n_f32(0.0); N];
            // Four blocks at a time, so that their scales fill a register.
            let mut first = 0;
            while first < blocks {
                let count = (blocks - first).min(4);
                let group = row.add(first * B::BYTES);
                let mut scales = [[0f32; 4]; N];
                let d = f16_of::<B>(group, count);
                for (n, column) in columns.iter().enumerate() {
                    let scale = vld1q_f32(column.scales.add(first));
                    vst1q_f32(scales[n].as_mut_ptr(), vmulq_f32(d, scale));
                    if B::MIN || B::ZERO != 0.0 {
                        let sum = vld1q_s32(column.sums.cast::<i32>().add(first));
                        let sum = vmulq_f32(scale, vcvtq_f32_s32(sum));
                        sums[n] = if B::MIN {
                            vfmaq_f32(sums[n], f16_of::<B>(group.add(2), count), sum)
                        } else {
                            vfmsq_f32(sums[n], vmulq_n_f32(d, B::ZERO), sum)
                        };
                    }
                }
                // `i` is the block's number in three places at once.
                #[allow(clippy::needless_range_loop)]
                for i in 0..count {
                    let weights = B::unpack(group.add(i * B::BYTES));
                    for (n, column) in columns.iter().enumerate() {
                        let total = I::block(&weights, column.values.add((first + i) * 32));
                        let sum = if i % 2 == 1 {
                            &mut odd_sums[n]
                        } else {
                            &mut sums[n]
                        };
                        *sum = vfmaq_n_f32(*sum, vcvtq_f32_s32(total), scales[n][i]);
                    }
                }
                first += count;
            }
            let mut all = [0.0; N];
            for (n, all) in all.iter_mut().enumerate() {
                *all = vaddvq_f32(vaddq_f32(sums[n], odd_sums[n]));
            }
            all
        }
    }
}

/// The f16 at the beginning of `count` blocks, at most four, as floats; zeros after them.
///
/// # Safety
/// From `first` on there are `count` blocks of `B`.
#[inline(always)]
unsafe fn f16_of<B: Block>(first: *const u8, count: usize) -> float32x4_t {
    let mut halves = 0;
    for i in 0..count {
        // SAFETY: it is within a block.
        let half = unsafe { first.add(i * B::BYTES).cast::<u16>().read_unaligned() };
        halves |= u64::from(half) << (16 * i);
    }
    half::vector(halves)
}

/// The low halves of 16 bytes, and the high ones.
///
/// # Safety
/// `packed` is valid for reading 16 bytes.
#[inline(always)]
unsafe fn nibbles(packed: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: by the caller's word.
    unsafe {
        let packed = vld1q_u8(packed);
        [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)]
    }
}

/// 32 bits, each as 16 or 0, together with low halves.
///
/// # Safety
/// `bits` is valid for reading 4 bytes.
#[inline(always)]
unsafe fn with_fifth_bits(low: [uint8x16_t; 2], bits: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: by the caller's word.
    unsafe {
        let bits = vreinterpretq_u8_u32(vdupq_n_u32(bits.cast::<u32>().read_unaligned()));
        let which_bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        let mut weights = low;
        for (half, weights) in weights.iter_mut().enumerate() {
            let byte = |i: u64| vcreate_u8((half as u64 * 2 + i) * 0x0101_0101_0101_0101);
            let bytes = vqtbl1q_u8(bits, vcombine_u8(byte(0), byte(1)));
            let sixteen = vandq_u8(vtstq_u8(bytes, which_bit), vdupq_n_u8(16));
            *weights = vorrq_u8(*weights, sixteen);
        }
        weights
    }
}

#[inline(always)]
fn signed([low, high]: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)] }
}

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(super) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const ZERO: f32 = 8.0;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after the scale.
        signed(unsafe { nibbles(block.add(2)) })
    }
}

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(super) struct Q4_1;

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
pub(super) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 22;
    const ZERO: f32 = 16.0;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: bits and weights follow the scale.
        signed(unsafe { with_fifth_bits(nibbles(block.add(6)), block.add(2)) })
    }
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(super) struct Q5_1;

impl Block for Q5_1 {
    const BYTES: usize = 24;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: bits and weights follow scale and minimum.
        signed(unsafe { with_fifth_bits(nibbles(block.add(8)), block.add(4)) })
    }
}

/// f16 scale, 32 signed bytes.
pub(super) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: the weights begin after the scale.
        unsafe {
            let weights = block.add(2).cast();
            [vld1q_s8(weights), vld1q_s8(weights.add(16))]
        }
    }
}
