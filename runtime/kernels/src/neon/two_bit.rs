//! How Q2_K and Q3_K pack their weights: four times two bits to a byte.

use std::arch::aarch64::*;

use super::k_quant::{Of, SuperBlock, wide};
use super::source::Source;
use super::super_blocks::signed;

pub(crate) type Q2K = Of<TwoBit>;
pub(crate) type Q3K = Of<ThreeBit>;

/// 16 scales and minimums of four bits each, 64 bytes of four weights each, f16 scale, f16 minimum.
///
/// Weights stay where they are in their byte, once, four or sixteen times as large; scales make up for that, so that
/// all products are 64 times too large.
pub(crate) struct TwoBit;

impl SuperBlock for TwoBit {
    const BYTES: usize = 84;
    const GROUP: usize = 16;
    const TIMES: f32 = 64.0;
    const SCALE: usize = 80;
    const MIN: Option<usize> = Some(82);

    #[inline(always)]
    unsafe fn unpack(block: impl Source, quarter: usize) -> [int8x16_t; 4] {
        // SAFETY: the weights are behind sixteen scales.
        unsafe {
            let packed = block.load(16 + quarter * 16);
            signed([
                vandq_u8(packed, vdupq_n_u8(0x03)),
                vandq_u8(packed, vdupq_n_u8(0x0c)),
                vandq_u8(packed, vdupq_n_u8(0x30)),
                // Its upper bit would be a sign.
                vshrq_n_u8::<6>(packed),
            ])
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2] {
        static SHIFTS: [i16; 8] = [6, 6, 4, 4, 2, 2, 6, 6];
        // SAFETY: a super-block begins with sixteen scales.
        unsafe {
            let scales = vandq_u8(vld1q_u8(block), vdupq_n_u8(15));
            let shifts = vld1q_s16(SHIFTS.as_ptr());
            [
                vshlq_s16(wide(vget_low_u8(scales)), shifts),
                vshlq_s16(wide(vget_high_u8(scales)), shifts),
            ]
        }
    }

    #[inline(always)]
    unsafe fn mins(block: *const u8) -> [uint8x8_t; 2] {
        // SAFETY: a super-block begins with sixteen minimums.
        unsafe {
            let mins = vshrq_n_u8::<4>(vld1q_u8(block));
            [vget_low_u8(mins), vget_high_u8(mins)]
        }
    }
}

/// 32 bytes of third bits, 64 bytes of four weights each, 12 bytes of six-bit scales, of which 32 is zero, f16 scale; 4 is
/// zero.
pub(crate) struct ThreeBit;

impl SuperBlock for ThreeBit {
    const BYTES: usize = 110;
    const GROUP: usize = 16;
    const ZERO: i32 = 4;
    const SCALE: usize = 108;
    const MIN: Option<usize> = None;

    #[inline(always)]
    unsafe fn unpack(block: impl Source, quarter: usize) -> [int8x16_t; 4] {
        // SAFETY: each read is within the super-block.
        unsafe {
            let (half, side) = (quarter / 2, quarter % 2);
            let packed = block.load(32 + quarter * 16);
            // The third bit of each of the half's four groups, from bit 0 on.
            let mut third = block.load(side * 16);
            if half == 1 {
                third = vshrq_n_u8::<4>(third);
            }
            let (four, seven) = (vdupq_n_u8(4), vdupq_n_u8(7));
            signed([
                vandq_u8(vsliq_n_u8::<2>(packed, third), seven),
                vandq_u8(
                    vsliq_n_u8::<2>(vshrq_n_u8::<2>(packed), vshrq_n_u8::<1>(third)),
                    seven,
                ),
                vandq_u8(vbslq_u8(four, third, vshrq_n_u8::<4>(packed)), seven),
                vsriq_n_u8::<6>(vandq_u8(vshrq_n_u8::<1>(third), four), packed),
            ])
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2] {
        // By how much the upper bits of four scales each are shifted to the right.
        static UPPER: [i32; 4] = [0, -2, -4, -6];
        // SAFETY: twelve bytes of scales are behind the weights.
        unsafe {
            let lower = vld1_u8(block.add(96));
            let lower = vcombine_u8(lower, vshr_n_u8::<4>(lower));
            let lower = vandq_u8(lower, vdupq_n_u8(15));
            let upper = vdupq_n_u32(block.add(104).cast::<u32>().read_unaligned());
            let upper = vreinterpretq_u8_u32(vshlq_u32(upper, vld1q_s32(UPPER.as_ptr())));
            let scales = vandq_u8(vsliq_n_u8::<4>(lower, upper), vdupq_n_u8(0x3f));
            let scales = vsubq_s8(vreinterpretq_s8_u8(scales), vdupq_n_s8(32));
            [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)]
        }
    }
}
