//! How Q4_K, Q5_K and Q6_K pack their weights.

use std::arch::aarch64::*;

use super::k_quant::{Of, SuperBlock, wide};
use super::source::Source;

/// Q4_K, and Q5_K if `FIVE`: f16 scale, f16 minimum, 12 bytes of scales and minimums of six bits, of Q5_K 32 bytes of
/// fifth bits, bit `g` for group `g`, then 128 bytes of two weights each.
pub(crate) struct FourBit<const FIVE: bool>;

pub(crate) type Q4K = Of<FourBit<false>>;
pub(crate) type Q5K = Of<FourBit<true>>;

impl<const FIVE: bool> SuperBlock for FourBit<FIVE> {
    const BYTES: usize = if FIVE { 176 } else { 144 };
    const GROUP: usize = 32;
    const SCALE: usize = 0;
    const MIN: Option<usize> = Some(2);

    #[inline(always)]
    unsafe fn unpack(block: impl Source, quarter: usize) -> [int8x16_t; 4] {
        // SAFETY: each read is within the super-block.
        unsafe {
            let low = if FIVE { 48 } else { 16 } + quarter * 32;
            let side = |side: usize| {
                let packed = block.load(low + side * 16);
                if !FIVE {
                    return [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)];
                }
                let bits = block.load(16 + side * 16);
                // To bit 0, from which it is shifted, and to bit 4, where a fifth bit belongs.
                let [first, second] = match quarter {
                    0 => [bits, vshlq_n_u8::<3>(bits)],
                    1 => [vshrq_n_u8::<2>(bits), vshlq_n_u8::<1>(bits)],
                    2 => [vshrq_n_u8::<4>(bits), vshrq_n_u8::<1>(bits)],
                    _ => [vshrq_n_u8::<6>(bits), vshrq_n_u8::<3>(bits)],
                };
                [
                    vsliq_n_u8::<4>(packed, vandq_u8(first, vdupq_n_u8(1))),
                    vsriq_n_u8::<4>(vandq_u8(second, vdupq_n_u8(16)), packed),
                ]
            };
            let ([a, c], [b, d]) = (side(0), side(1));
            signed([a, b, c, d])
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: by the caller's word.
        let [a, _, c] = unsafe { small_numbers(block) };
        let upper = c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4;
        let scales = wide(bytes(a & 0x3f3f_3f3f, upper));
        // SAFETY: each arm64 CPU has NEON.
        [scales, unsafe { vextq_s16::<4>(scales, scales) }]
    }

    #[inline(always)]
    unsafe fn mins(block: *const u8) -> [uint8x8_t; 2] {
        // SAFETY: by the caller's word.
        let [_, b, c] = unsafe { small_numbers(block) };
        let upper = c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4;
        [bytes(b & 0x3f3f_3f3f, upper); 2]
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

/// Eight bytes.
#[inline(always)]
fn bytes(low: u32, high: u32) -> uint8x8_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { vcreate_u8(u64::from(high) << 32 | u64::from(low)) }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(crate) struct SixBit;

pub(crate) type Q6K = Of<SixBit>;

impl SuperBlock for SixBit {
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const ZERO: i32 = 32;
    const SCALE: usize = 208;
    const MIN: Option<usize> = None;

    #[inline(always)]
    unsafe fn unpack(block: impl Source, quarter: usize) -> [int8x16_t; 4] {
        // SAFETY: each read is within the super-block.
        unsafe {
            let (half, side) = (quarter / 2, quarter % 2);
            let high = block.load(128 + half * 32 + side * 16);
            let even = block.load(half * 64 + side * 16);
            let odd = block.load(half * 64 + 32 + side * 16);
            let next = vshrq_n_u8::<2>(high);
            let (first, third) = (vdupq_n_u8(0x03), vdupq_n_u8(0x30));
            signed([
                vsliq_n_u8::<4>(even, vandq_u8(high, first)),
                vsliq_n_u8::<4>(odd, vandq_u8(next, first)),
                vsriq_n_u8::<4>(vandq_u8(high, third), even),
                vsriq_n_u8::<4>(vandq_u8(next, third), odd),
            ])
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
}

#[inline(always)]
pub(super) fn signed([a, b, c, d]: [uint8x16_t; 4]) -> [int8x16_t; 4] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        [
            vreinterpretq_s8_u8(a),
            vreinterpretq_s8_u8(b),
            vreinterpretq_s8_u8(c),
            vreinterpretq_s8_u8(d),
        ]
    }
}
