//! Products of 8-bit numbers by dot products, row by row.

use std::arch::aarch64::*;
use std::arch::asm;

use super::isa::Isa;
use super::tile::ZERO;

/// Armv8.2 with dot products: Cortex-A76, A78AE, Neoverse.
pub(super) struct DotProduct;

impl Isa for DotProduct {
    #[inline(always)]
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe { four_groups_of_32(total, weights, values, vmovl_s16(vget_low_s16(scales))) }
    }

    #[inline(always)]
    unsafe fn groups_of_32_bytes(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word. Products are added in 32 bits.
        unsafe { Self::groups_of_32(weights, values, scales, total) }
    }

    #[inline(always)]
    unsafe fn groups_of_16(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let [a, b, c, d, e, f, g, h] = *weights;
            let low = vmovl_s16(vget_low_s16(scales));
            let total = four_groups_of_16(total, [a, b, c, d], values, low);
            four_groups_of_16(total, [e, f, g, h], values.add(64), vmovl_high_s16(scales))
        }
    }

    #[inline(always)]
    unsafe fn block(weights: [int8x16_t; 2], values: *const i8) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let sums = sdot(ZERO.load(), weights[0], values);
            sdot(sums, weights[1], values.add(16))
        }
    }
}

/// Adds sixteen products to four sums.
///
/// # Safety
/// The CPU has dot products; `values` is valid for reading 16 bytes.
#[inline(always)]
unsafe fn sdot(sums: int32x4_t, weights: int8x16_t, values: *const i8) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: by the caller's word. It reads and writes registers only.
    unsafe {
        let values = vld1q_s8(values);
        // The library's own function for it is not stable yet.
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {weights:v}.16b, {values:v}.16b",
            sums = inout(vreg) sums,
            weights = in(vreg) weights,
            values = in(vreg) values,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds to `total` the products of four groups of 32 weights, each times its scale, in a lane for each group.
///
/// One piece of assembly, for the same reason as in `tile`.
///
/// # Safety
/// The CPU has dot products; `values` is valid for reading 128 bytes.
#[inline(always)]
unsafe fn four_groups_of_32(
    total: int32x4_t,
    weights: &[int8x16_t; 8],
    values: *const i8,
    scales: int32x4_t,
) -> int32x4_t {
    let mut total = total;
    // SAFETY: by the caller's word. It reads the values, and writes registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "ldr {s0:q}, [{zero}]",
            "ldr {s1:q}, [{zero}]",
            "ldr {s2:q}, [{zero}]",
            "ldr {s3:q}, [{zero}]",
            "ldr {v:q}, [{values}]",
            "sdot {s0:v}.4s, {w0:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #32]",
            "sdot {s1:v}.4s, {w2:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #64]",
            "sdot {s2:v}.4s, {w4:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #96]",
            "sdot {s3:v}.4s, {w6:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #16]",
            "sdot {s0:v}.4s, {w1:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #48]",
            "sdot {s1:v}.4s, {w3:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #80]",
            "sdot {s2:v}.4s, {w5:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #112]",
            "sdot {s3:v}.4s, {w7:v}.16b, {v:v}.16b",
            "addp {s0:v}.4s, {s0:v}.4s, {s1:v}.4s",
            "addp {s2:v}.4s, {s2:v}.4s, {s3:v}.4s",
            "addp {s0:v}.4s, {s0:v}.4s, {s2:v}.4s",
            "mla {total:v}.4s, {s0:v}.4s, {scales:v}.4s",
            total = inout(vreg) total,
            s0 = out(vreg) _,
            s1 = out(vreg) _,
            s2 = out(vreg) _,
            s3 = out(vreg) _,
            v = out(vreg) _,
            w0 = in(vreg) weights[0],
            w1 = in(vreg) weights[1],
            w2 = in(vreg) weights[2],
            w3 = in(vreg) weights[3],
            w4 = in(vreg) weights[4],
            w5 = in(vreg) weights[5],
            w6 = in(vreg) weights[6],
            w7 = in(vreg) weights[7],
            scales = in(vreg) scales,
            values = in(reg) values,
            zero = in(reg) &raw const ZERO.0,
            options(readonly, nostack, preserves_flags),
        );
    }
    total
}

/// As [`four_groups_of_32`], of groups of 16.
///
/// # Safety
/// As there, of 64 bytes.
#[inline(always)]
unsafe fn four_groups_of_16(
    total: int32x4_t,
    weights: [int8x16_t; 4],
    values: *const i8,
    scales: int32x4_t,
) -> int32x4_t {
    let mut total = total;
    // SAFETY: by the caller's word. It reads the values, and writes registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "ldr {s0:q}, [{zero}]",
            "ldr {s1:q}, [{zero}]",
            "ldr {s2:q}, [{zero}]",
            "ldr {s3:q}, [{zero}]",
            "ldr {v:q}, [{values}]",
            "sdot {s0:v}.4s, {w0:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #16]",
            "sdot {s1:v}.4s, {w1:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #32]",
            "sdot {s2:v}.4s, {w2:v}.16b, {v:v}.16b",
            "ldr {v:q}, [{values}, #48]",
            "sdot {s3:v}.4s, {w3:v}.16b, {v:v}.16b",
            "addp {s0:v}.4s, {s0:v}.4s, {s1:v}.4s",
            "addp {s2:v}.4s, {s2:v}.4s, {s3:v}.4s",
            "addp {s0:v}.4s, {s0:v}.4s, {s2:v}.4s",
            "mla {total:v}.4s, {s0:v}.4s, {scales:v}.4s",
            total = inout(vreg) total,
            s0 = out(vreg) _,
            s1 = out(vreg) _,
            s2 = out(vreg) _,
            s3 = out(vreg) _,
            v = out(vreg) _,
            w0 = in(vreg) weights[0],
            w1 = in(vreg) weights[1],
            w2 = in(vreg) weights[2],
            w3 = in(vreg) weights[3],
            scales = in(vreg) scales,
            values = in(reg) values,
            zero = in(reg) &raw const ZERO.0,
            options(readonly, nostack, preserves_flags),
        );
    }
    total
}
