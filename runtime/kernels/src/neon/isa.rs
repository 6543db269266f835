//! How products of 8-bit numbers are made and added: what instruction sets have to offer, and that of each arm64 CPU.

use std::arch::aarch64::*;
use std::arch::asm;

use super::rows::sums_of_lanes;

/// What both can do with the weights of one row, each in its own way, with the same result.
///
/// All functions ask of the CPU what their implementation is for, and of `values` that as many may be read as
/// there are weights.
pub(crate) trait Isa {
    /// Adds to `total` the products of 128 weights, each within 0 to 31, in four groups, each times its scale, of
    /// `scales` the lower four.
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// The same of weights that are any bytes.
    unsafe fn groups_of_32_bytes(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// The same of eight groups of 16 weights within 0 to 63.
    unsafe fn groups_of_16(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// The products of 32 weights, in four sums.
    unsafe fn block(weights: [int8x16_t; 2], values: *const i8) -> int32x4_t;
}

/// Each arm64 CPU: products are added in 16 bits as long as they fit, as a Cortex-A72 multiplies once a cycle.
pub(super) struct Plain;

/// The sixteen products of `weights` and the values at `values`, in pairs.
///
/// # Safety
/// `values` is valid for reading 16 bytes.
#[inline(always)]
unsafe fn products(weights: int8x16_t, values: *const i8) -> int16x8_t {
    // SAFETY: by the caller's word.
    unsafe {
        let values = vld1q_s8(values);
        let sums = vmull_s8(vget_low_s8(weights), vget_low_s8(values));
        vmlal_high_s8(sums, weights, values)
    }
}

impl Isa for Plain {
    #[inline(always)]
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            // Four products in each of eight numbers, at most 4 * 31 * 127; eight in each after a pairwise addition.
            let [a, b, c, d, e, f, g, h] = *weights;
            let total = two_groups_of_32::<0>(total, [a, b, c, d], values, scales);
            two_groups_of_32::<2>(total, [e, f, g, h], values.add(64), scales)
        }
    }

    #[inline(always)]
    unsafe fn groups_of_32_bytes(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let [a, b, c, d, e, f, g, h] = *weights;
            let first = Self::block([a, b], values);
            let second = Self::block([c, d], values.add(32));
            let third = Self::block([e, f], values.add(64));
            let fourth = Self::block([g, h], values.add(96));
            let sums = sums_of_lanes([first, second, third, fourth]);
            vmlaq_s32(total, sums, vmovl_s16(vget_low_s16(scales)))
        }
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
            // Two products in each of eight numbers; four in each after a pairwise addition, at most 4 * 63 * 127.
            let [a, b, c, d, e, f, g, h] = *weights;
            let total = two_groups_of_16::<0>(total, [a, b], values, scales);
            let total = two_groups_of_16::<2>(total, [c, d], values.add(32), scales);
            let total = two_groups_of_16::<4>(total, [e, f], values.add(64), scales);
            two_groups_of_16::<6>(total, [g, h], values.add(96), scales)
        }
    }

    #[inline(always)]
    unsafe fn block(weights: [int8x16_t; 2], values: *const i8) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            // Two products of any 8-bit weights fit into 16 bits, as values are within -127 to 127.
            let pairs = vpaddlq_s16(products(weights[0], values));
            vpadalq_s16(pairs, products(weights[1], values.add(16)))
        }
    }
}

/// Adds to `total` the products of two groups of 32 weights, each times its scale, of which `LANE` is the first.
///
/// One piece of assembly, for the same reason as in `tile`.
///
/// # Safety
/// `values` is valid for reading 64 bytes.
#[inline(always)]
unsafe fn two_groups_of_32<const LANE: usize>(
    total: int32x4_t,
    weights: [int8x16_t; 4],
    values: *const i8,
    scales: int16x8_t,
) -> int32x4_t {
    let mut total = total;
    // SAFETY: by the caller's word. It reads the values, and writes registers only.
    unsafe {
        asm!(
            "ldr {vp:q}, [{values}]",
            "ldr {vq:q}, [{values}, #32]",
            "smull {p:v}.8h, {w0:v}.8b, {vp:v}.8b",
            "smull {q:v}.8h, {w2:v}.8b, {vq:v}.8b",
            "smlal2 {p:v}.8h, {w0:v}.16b, {vp:v}.16b",
            "smlal2 {q:v}.8h, {w2:v}.16b, {vq:v}.16b",
            "ldr {vp:q}, [{values}, #16]",
            "ldr {vq:q}, [{values}, #48]",
            "smlal {p:v}.8h, {w1:v}.8b, {vp:v}.8b",
            "smlal {q:v}.8h, {w3:v}.8b, {vq:v}.8b",
            "smlal2 {p:v}.8h, {w1:v}.16b, {vp:v}.16b",
            "smlal2 {q:v}.8h, {w3:v}.16b, {vq:v}.16b",
            "addp {p:v}.8h, {p:v}.8h, {q:v}.8h",
            "smlal {total:v}.4s, {p:v}.4h, {scales:v}.h[{lane}]",
            "smlal2 {total:v}.4s, {p:v}.8h, {scales:v}.h[{lane} + 1]",
            total = inout(vreg) total,
            p = out(vreg) _,
            q = out(vreg) _,
            vp = out(vreg) _,
            vq = out(vreg) _,
            w0 = in(vreg) weights[0],
            w1 = in(vreg) weights[1],
            w2 = in(vreg) weights[2],
            w3 = in(vreg) weights[3],
            // The multiplication by a lane of 16 bits takes one of these.
            scales = in(vreg_low16) scales,
            lane = const LANE,
            values = in(reg) values,
            options(readonly, nostack, preserves_flags),
        );
    }
    total
}

/// As [`two_groups_of_32`], of groups of 16.
///
/// # Safety
/// `values` is valid for reading 32 bytes.
#[inline(always)]
unsafe fn two_groups_of_16<const LANE: usize>(
    total: int32x4_t,
    weights: [int8x16_t; 2],
    values: *const i8,
    scales: int16x8_t,
) -> int32x4_t {
    let mut total = total;
    // SAFETY: by the caller's word. It reads the values, and writes registers only.
    unsafe {
        asm!(
            "ldr {vp:q}, [{values}]",
            "ldr {vq:q}, [{values}, #16]",
            "smull {p:v}.8h, {w0:v}.8b, {vp:v}.8b",
            "smull {q:v}.8h, {w1:v}.8b, {vq:v}.8b",
            "smlal2 {p:v}.8h, {w0:v}.16b, {vp:v}.16b",
            "smlal2 {q:v}.8h, {w1:v}.16b, {vq:v}.16b",
            "addp {p:v}.8h, {p:v}.8h, {q:v}.8h",
            "smlal {total:v}.4s, {p:v}.4h, {scales:v}.h[{lane}]",
            "smlal2 {total:v}.4s, {p:v}.8h, {scales:v}.h[{lane} + 1]",
            total = inout(vreg) total,
            p = out(vreg) _,
            q = out(vreg) _,
            vp = out(vreg) _,
            vq = out(vreg) _,
            w0 = in(vreg) weights[0],
            w1 = in(vreg) weights[1],
            // The multiplication by a lane of 16 bits takes one of these.
            scales = in(vreg_low16) scales,
            lane = const LANE,
            values = in(reg) values,
            options(readonly, nostack, preserves_flags),
        );
    }
    total
}
