//! Q4_K, Q5_K and Q6_K: 256 weights in groups with small whole scales.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::half::floats;
use super::isa::Isa;
use crate::activation::Column;
use crate::panel::RowKernel;

/// Q4_K, and Q5_K if `FIVE`: f16 scale, f16 minimum, 12 bytes of scales and minimums of six bits, of Q5_K 32 bytes of
/// fifth bits, bit `g` for group `g`, then 128 bytes of two weights each.
pub(super) struct FourBit<I, const FIVE: bool>(PhantomData<I>);

impl<I: Isa, const FIVE: bool> RowKernel for FourBit<I, FIVE> {
    #[inline(always)]
    unsafe fn dot<const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [f32; N] {
        // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
        unsafe {
            let mut sums = [vdupq_n_f32(0.0); N];
            for index in 0..blocks {
                let block = row.add(index * if FIVE { 176 } else { 144 });
                let low = block.add(if FIVE { 48 } else { 16 });
                let (scales, mins) = scales_and_mins(block.add(4));
                let mut totals = [vdupq_n_s32(0); N];
                for half in 0..2 {
                    let mut weights = [vdupq_n_s8(0); 8];
                    for pair in 0..2 {
                        for side in 0..2 {
                            let packed = vld1q_u8(low.add(half * 64 + pair * 32 + side * 16));
                            let mut both =
                                [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)];
                            if FIVE {
                                let fifth = vld1q_u8(block.add(16 + side * 16));
                                for (odd, weights) in both.iter_mut().enumerate() {
                                    let bit = 1 << (half * 4 + pair * 2 + odd);
                                    let set = vtstq_u8(fifth, vdupq_n_u8(bit));
                                    let sixteen = vandq_u8(set, vdupq_n_u8(16));
                                    *weights = vorrq_u8(*weights, sixteen);
                                }
                            }
                            weights[pair * 4 + side] = vreinterpretq_s8_u8(both[0]);
                            weights[pair * 4 + 2 + side] = vreinterpretq_s8_u8(both[1]);
                        }
                    }
                    let scales = match half {
                        0 => vget_low_s16(scales),
                        _ => vget_high_s16(scales),
                    };
                    for (total, column) in totals.iter_mut().zip(columns) {
                        let values = column.values.add(index * 256 + half * 128);
                        *total = I::groups_of_32(&weights, values, scales, *total);
                    }
                }
                let [d, min, ..] = floats(block.cast::<u32>().read_unaligned().into());
                for (n, column) in columns.iter().enumerate() {
                    let value_sums = column.sums.cast::<i16>().add(index * 16);
                    let value_sums =
                        vpaddq_s16(vld1q_s16(value_sums), vld1q_s16(value_sums.add(8)));
                    let below = vmull_s16(vget_low_s16(value_sums), vget_low_s16(mins));
                    let below = vmlal_high_s16(below, value_sums, mins);
                    let scale = column.scales.add(index).read_unaligned();
                    sums[n] = vfmaq_n_f32(sums[n], vcvtq_f32_s32(totals[n]), d * scale);
                    sums[n] = vfmsq_n_f32(sums[n], vcvtq_f32_s32(below), min * scale);
                }
            }
            sums.map(|lanes| vaddvq_f32(lanes))
        }
    }
}

/// The eight scales and the eight minimums as 16-bit numbers.
///
/// # Safety
/// `packed` is valid for reading 12 bytes.
#[inline(always)]
unsafe fn scales_and_mins(packed: *const u8) -> (int16x8_t, int16x8_t) {
    // SAFETY: by the caller's word.
    let word = |i: usize| unsafe { packed.cast::<u32>().add(i).read_unaligned() };
    let (a, b, c) = (word(0), word(1), word(2));
    let (six, four, two) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x0303_0303);
    let wide = |low: u32, high: u32| {
        let bytes = u64::from(high) << 32 | u64::from(low);
        // SAFETY: each arm64 CPU has NEON.
        unsafe { vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(bytes))) }
    };
    (
        wide(a & six, c & four | (a >> 6 & two) << 4),
        wide(b & six, c >> 4 & four | (b >> 6 & two) << 4),
    )
}

/// Q6_K: 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(super) struct SixBit<I>(PhantomData<I>);

impl<I: Isa> RowKernel for SixBit<I> {
    #[inline(always)]
    unsafe fn dot<const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [f32; N] {
        // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
        unsafe {
            let two_bits = vdupq_n_u8(0x30);
            let mut sums = [vdupq_n_f32(0.0); N];
            for index in 0..blocks {
                let block = row.add(index * 210);
                let mut totals = [vdupq_n_s32(0); N];
                for half in 0..2 {
                    let mut weights = [vdupq_n_s8(0); 8];
                    for side in 0..2 {
                        let high = vld1q_u8(block.add(128 + half * 32 + side * 16));
                        let low =
                            |odd: usize| vld1q_u8(block.add(half * 64 + odd * 32 + side * 16));
                        let (even, odd) = (low(0), low(1));
                        let nibble = vdupq_n_u8(15);
                        let quarters = [
                            (vandq_u8(even, nibble), vshlq_n_u8::<4>(high)),
                            (vandq_u8(odd, nibble), vshlq_n_u8::<2>(high)),
                            (vshrq_n_u8::<4>(even), high),
                            (vshrq_n_u8::<4>(odd), vshrq_n_u8::<2>(high)),
                        ];
                        for (quarter, (low, high)) in quarters.into_iter().enumerate() {
                            let unpacked = vorrq_u8(low, vandq_u8(high, two_bits));
                            weights[quarter * 2 + side] =
                                vsubq_s8(vreinterpretq_s8_u8(unpacked), vdupq_n_s8(32));
                        }
                    }
                    let scales = vmovl_s8(vld1_s8(block.add(192 + half * 8).cast()));
                    for (total, column) in totals.iter_mut().zip(columns) {
                        let values = column.values.add(index * 256 + half * 128);
                        *total = I::groups_of_16(&weights, values, scales, *total);
                    }
                }
                let [d, ..] = floats(block.add(208).cast::<u16>().read_unaligned().into());
                for (n, column) in columns.iter().enumerate() {
                    let scale = column.scales.add(index).read_unaligned();
                    sums[n] = vfmaq_n_f32(sums[n], vcvtq_f32_s32(totals[n]), d * scale);
                }
            }
            sums.map(|lanes| vaddvq_f32(lanes))
        }
    }
}
