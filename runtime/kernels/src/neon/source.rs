//! Where blocks are unpacked from: one row's as they lie, or half of what two rows have, eight bytes of each beside each
//! other, before they are unpacked rather than after.

use std::arch::aarch64::*;

/// All functions ask that what they are told of lies within a block of the row, or of each.
pub(crate) trait Source: Copy {
    /// Sixteen bytes from byte `at` on; of two rows, eight of each.
    unsafe fn load(self, at: usize) -> uint8x16_t;

    /// The bits of the four bytes from byte `at` on, for what comes of sixteen bytes twice: each byte eight times over.
    unsafe fn bits(self, at: usize) -> [uint8x16_t; 2];
}

impl Source for *const u8 {
    #[inline(always)]
    unsafe fn load(self, at: usize) -> uint8x16_t {
        // SAFETY: by the caller's word.
        unsafe { vld1q_u8(self.add(at)) }
    }

    #[inline(always)]
    unsafe fn bits(self, at: usize) -> [uint8x16_t; 2] {
        // SAFETY: by the caller's word.
        unsafe {
            let bits = self.add(at).cast::<u32>().read_unaligned();
            let bits = vreinterpretq_u8_u32(vdupq_n_u32(bits));
            [spread(bits, 0, 1), spread(bits, 2, 3)]
        }
    }
}

/// Of sixteen bytes of each of two rows, the first eight, or the others.
#[derive(Clone, Copy)]
pub(super) struct Half<const OTHERS: bool>(pub [*const u8; 2]);

impl<const OTHERS: bool> Source for Half<OTHERS> {
    #[inline(always)]
    unsafe fn load(self, at: usize) -> uint8x16_t {
        // SAFETY: by the caller's word. All sixteen, as the other half is wanted, too.
        unsafe {
            let [a, b] = [self.0[0].load(at), self.0[1].load(at)];
            let (a, b) = (vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b));
            vreinterpretq_u8_u64(if OTHERS {
                vzip2q_u64(a, b)
            } else {
                vzip1q_u64(a, b)
            })
        }
    }

    #[inline(always)]
    unsafe fn bits(self, at: usize) -> [uint8x16_t; 2] {
        // SAFETY: by the caller's word.
        unsafe {
            let four = |row: *const u8| u64::from(row.add(at).cast::<u32>().read_unaligned());
            let bits = vcreate_u8(four(self.0[0]) | four(self.0[1]) << 32);
            let bits = vcombine_u8(bits, bits);
            let first = u64::from(OTHERS);
            [
                spread(bits, first, first + 4),
                spread(bits, first + 2, first + 6),
            ]
        }
    }
}

/// Two of these bytes, eight times over each.
#[inline(always)]
fn spread(bytes: uint8x16_t, first: u64, second: u64) -> uint8x16_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let byte = |i: u64| vcreate_u8(i * 0x0101_0101_0101_0101);
        vqtbl1q_u8(bytes, vcombine_u8(byte(first), byte(second)))
    }
}
