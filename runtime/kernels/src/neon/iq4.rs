//! How IQ4_NL and IQ4_XS pack their weights: four bits are the number of a weight in a table.

use std::arch::aarch64::*;

use super::block_32::{self, Block, nibbles};
use super::k_quant::{self, SuperBlock, wide};
use super::source::Source;

pub(crate) type Iq4Nl = block_32::Of<Nl>;
pub(crate) type Iq4Xs = k_quant::Of<Xs>;

/// f16 scale, 16 bytes of two numbers each of weights in a table.
pub(crate) struct Nl;

impl Block for Nl {
    const BYTES: usize = 18;

    #[inline(always)]
    unsafe fn unpack(block: impl Source) -> [int8x16_t; 2] {
        // SAFETY: the numbers begin after the scale.
        looked_up(unsafe { block.load(2) })
    }
}

/// f16 scale, upper two bits of eight scales, their lower four, 128 bytes of two numbers each; a scale of 32 is zero.
pub(crate) struct Xs;

impl SuperBlock for Xs {
    const BYTES: usize = 136;
    const GROUP: usize = 32;
    const BYTES_WIDE: bool = true;
    const SCALE: usize = 0;
    const MIN: Option<usize> = None;

    #[inline(always)]
    unsafe fn unpack(block: impl Source, quarter: usize) -> [int8x16_t; 4] {
        // SAFETY: sixteen bytes for each of eight groups are behind the scales.
        unsafe {
            let at = 8 + quarter * 32;
            let ([a, b], [c, d]) = (looked_up(block.load(at)), looked_up(block.load(at + 16)));
            [a, b, c, d]
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> [int16x8_t; 2] {
        // By how much the upper bits of each scale are shifted to the right.
        static UPPER: [i16; 8] = [0, -2, -4, -6, -8, -10, -12, -14];
        // SAFETY: the scales' six bytes are behind the super-block's own scale.
        unsafe {
            let upper = vdupq_n_s16(block.add(2).cast::<i16>().read_unaligned());
            let upper = vshlq_u16(vreinterpretq_u16_s16(upper), vld1q_s16(UPPER.as_ptr()));
            let lower = block.add(4).cast::<u32>().read_unaligned();
            let lower = vcreate_u8(u64::from(lower));
            let lower = vzip1_u8(vand_u8(lower, vdup_n_u8(15)), vshr_n_u8::<4>(lower));
            let scales = vsliq_n_s16::<4>(wide(lower), vreinterpretq_s16_u16(upper));
            let scales = vandq_s16(scales, vdupq_n_s16(0x3f));
            let scales = vsubq_s16(scales, vdupq_n_s16(32));
            [scales, vextq_s16::<4>(scales, scales)]
        }
    }
}

/// The weights whose numbers are in the low halves of sixteen bytes, and in the high ones.
///
/// # Safety
/// They are valid for reading.
#[inline(always)]
fn looked_up(packed: uint8x16_t) -> [int8x16_t; 2] {
    // SAFETY: there are as many weights in the table as there are numbers.
    unsafe {
        let table = vld1q_s8(crate::types::IQ4.as_ptr());
        let [low, high] = nibbles(packed);
        [vqtbl1q_s8(table, low), vqtbl1q_s8(table, high)]
    }
}
