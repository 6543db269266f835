//! Rows of weights: one, or four side by side.

use std::arch::aarch64::*;

use crate::panel::Panel;

/// Rows that are multiplied together: a register's lanes.
pub(crate) const ROWS: usize = 4;

/// Where the next blocks of `L` rows begin, one or four.
#[derive(Clone, Copy)]
pub(super) struct Rows<const L: usize>(pub [*const u8; L]);

impl Rows<ROWS> {
    /// The panel's rows from `row` on. Beyond the panel's end, its last row again.
    #[inline(always)]
    pub fn of(panel: &Panel, row: usize) -> Self {
        let mut starts = [panel.weights; ROWS];
        for (i, start) in starts.iter_mut().enumerate() {
            *start = panel.row((row + i).min(panel.rows - 1));
        }
        Self(starts)
    }

    /// The f16 at byte `at` of each row, as floats.
    ///
    /// # Safety
    /// Each row is valid for reading two bytes there.
    #[inline(always)]
    pub unsafe fn floats(&self, at: usize) -> float32x4_t {
        let mut halves = 0;
        for (i, row) in self.0.iter().enumerate() {
            // SAFETY: by the caller's word.
            let half = unsafe { row.add(at).cast::<u16>().read_unaligned() };
            halves |= u64::from(half) << (16 * i);
        }
        floats(halves)
    }
}

impl<const L: usize> Rows<L> {
    /// The rows `bytes` bytes further on.
    #[inline(always)]
    pub fn skip(&self, bytes: usize) -> Self {
        let mut starts = self.0;
        for start in &mut starts {
            *start = start.wrapping_add(bytes);
        }
        Self(starts)
    }

    /// Sixteen bytes from byte `at` on. Of four rows: the first four of each, then the next.
    ///
    /// # Safety
    /// Each row is valid for reading these bytes.
    #[inline(always)]
    pub unsafe fn load(&self, at: usize) -> [uint8x16_t; L] {
        // SAFETY: by the caller's word.
        unsafe {
            let mut pieces = [vdupq_n_u8(0); L];
            for (piece, row) in pieces.iter_mut().zip(self.0) {
                *piece = vld1q_u8(row.add(at));
            }
            if let [a, b, c, d] = pieces.as_mut_slice() {
                side_by_side(a, b, c, d);
            }
            pieces
        }
    }
}

/// Turns four rows of four 32-bit numbers into columns.
#[inline(always)]
fn side_by_side(a: &mut uint8x16_t, b: &mut uint8x16_t, c: &mut uint8x16_t, d: &mut uint8x16_t) {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let words = |x: &uint8x16_t| vreinterpretq_u32_u8(*x);
        let (ac, ac_high) = (
            vzip1q_u32(words(a), words(c)),
            vzip2q_u32(words(a), words(c)),
        );
        let (bd, bd_high) = (
            vzip1q_u32(words(b), words(d)),
            vzip2q_u32(words(b), words(d)),
        );
        *a = vreinterpretq_u8_u32(vzip1q_u32(ac, bd));
        *b = vreinterpretq_u8_u32(vzip2q_u32(ac, bd));
        *c = vreinterpretq_u8_u32(vzip1q_u32(ac_high, bd_high));
        *d = vreinterpretq_u8_u32(vzip2q_u32(ac_high, bd_high));
    }
}

/// Four f16, the first in the lowest bits, as floats.
#[inline(always)]
fn floats(halves: u64) -> float32x4_t {
    let floats: float32x4_t;
    // SAFETY: each arm64 CPU has these instructions, which read and write registers only. The library's own function
    // for them is not stable yet.
    unsafe {
        std::arch::asm!(
            "fmov {floats:d}, {halves}",
            "fcvtl {floats:v}.4s, {floats:v}.4h",
            floats = out(vreg) floats,
            halves = in(reg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    floats
}

/// The sums of the lanes of each of four registers.
#[inline(always)]
pub(super) fn sums_of_lanes([a, b, c, d]: [int32x4_t; ROWS]) -> int32x4_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
}

/// Turns four rows of eight 16-bit numbers into eight of four, two in each register.
#[inline(always)]
pub(super) fn transposed([a, b, c, d]: [int16x8_t; ROWS]) -> [int16x8_t; 4] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let (ac, ac_high) = (vzip1q_s16(a, c), vzip2q_s16(a, c));
        let (bd, bd_high) = (vzip1q_s16(b, d), vzip2q_s16(b, d));
        [
            vzip1q_s16(ac, bd),
            vzip2q_s16(ac, bd),
            vzip1q_s16(ac_high, bd_high),
            vzip2q_s16(ac_high, bd_high),
        ]
    }
}
