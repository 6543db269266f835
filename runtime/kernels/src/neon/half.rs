//! Numbers of half precision.

use std::arch::aarch64::{float32x4_t, vst1q_f32};
use std::arch::asm;

/// Four f16, the first in the lowest bits, as floats.
#[inline(always)]
pub(super) fn vector(halves: u64) -> float32x4_t {
    let floats: float32x4_t;
    // SAFETY: each arm64 CPU has this instruction, which reads and writes registers only. The library's own function
    // for it is not stable yet.
    unsafe {
        asm!(
            "fmov {floats:d}, {halves}",
            "fcvtl {floats:v}.4s, {floats:v}.4h",
            floats = out(vreg) floats,
            halves = in(reg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    floats
}

/// The same, one by one.
#[inline(always)]
pub(super) fn floats(halves: u64) -> [f32; 4] {
    let mut floats = [0.0; 4];
    // SAFETY: there is room for four.
    unsafe { vst1q_f32(floats.as_mut_ptr(), vector(halves)) };
    floats
}
