//! Four rows of weights.

use std::arch::aarch64::*;

use crate::panel::Panel;

/// Rows that are multiplied together: a register's lanes.
pub(crate) const ROWS: usize = 4;

/// Where the next blocks of four rows begin.
#[derive(Clone, Copy)]
pub(crate) struct Rows(pub [*const u8; ROWS]);

impl Rows {
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

    /// The rows `bytes` bytes further on.
    #[inline(always)]
    pub fn skip(&self, bytes: usize) -> Self {
        let mut starts = self.0;
        for start in &mut starts {
            *start = start.wrapping_add(bytes);
        }
        Self(starts)
    }
}

/// Turns four rows of four floats into columns.
#[inline(always)]
pub(super) fn transposed([a, b, c, d]: [float32x4_t; ROWS]) -> [float32x4_t; 4] {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let (ac, ac_high) = (vzip1q_f32(a, c), vzip2q_f32(a, c));
        let (bd, bd_high) = (vzip1q_f32(b, d), vzip2q_f32(b, d));
        [
            vzip1q_f32(ac, bd),
            vzip2q_f32(ac, bd),
            vzip1q_f32(ac_high, bd_high),
            vzip2q_f32(ac_high, bd_high),
        ]
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
