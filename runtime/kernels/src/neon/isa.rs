//! The two instruction sets: how sixteen products of 8-bit numbers are made and added.
//!
//! Weights lie within -32 to 31 in groups, whose sums of products then fit into 16 bits: `Plain` relies on it.

use std::arch::aarch64::*;
use std::arch::asm;

/// What both can do, each in its own way, with the same result.
///
/// All functions ask of the CPU what their implementation is for, and of `values` that as many may be read as
/// there are weights.
pub(super) trait Isa {
    /// Adds to `total` the sums of products of four groups of 32 weights, each times its scale. Each weight is within
    /// -31 to 31.
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x4_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// Adds to `total` the sums of products of eight groups of 16 weights, each times its scale. Each weight is within
    /// -32 to 31.
    unsafe fn groups_of_16(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// The products of 32 weights, in four sums.
    unsafe fn block(weights: &[int8x16_t; 2], values: *const i8) -> int32x4_t;
}

/// Each arm64 CPU: products are added in 16 bits as long as they fit, as a Cortex-A72 multiplies once a cycle.
pub(super) struct Plain;

/// The sixteen products of `weights` and the values at `values`, added to `sums` in pairs.
///
/// # Safety
/// `values` is valid for reading 16 bytes.
#[inline(always)]
unsafe fn add_products(sums: int16x8_t, weights: int8x16_t, values: *const i8) -> int16x8_t {
    // SAFETY: by the caller's word.
    unsafe {
        let values = vld1q_s8(values);
        let sums = vmlal_s8(sums, vget_low_s8(weights), vget_low_s8(values));
        vmlal_high_s8(sums, weights, values)
    }
}

/// As [`add_products`], to nothing.
///
/// # Safety
/// As there.
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
        scales: int16x4_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            // Four products in each of eight numbers, at most 4 * 31 * 127; eight in each after a pairwise addition.
            let group = |g: usize| {
                let sums = products(weights[g * 2], values.add(g * 32));
                add_products(sums, weights[g * 2 + 1], values.add(g * 32 + 16))
            };
            let first = vpaddq_s16(group(0), group(1));
            let second = vpaddq_s16(group(2), group(3));
            let total = vmlal_lane_s16::<0>(total, vget_low_s16(first), scales);
            let total = vmlal_high_lane_s16::<1>(total, first, scales);
            let total = vmlal_lane_s16::<2>(total, vget_low_s16(second), scales);
            vmlal_high_lane_s16::<3>(total, second, scales)
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
            // Two products in each of eight numbers; eight in each after two pairwise additions, at most 8 * 32 * 127.
            let group = |g: usize| products(weights[g], values.add(g * 16));
            let four = |g: usize| {
                vpaddq_s16(
                    vpaddq_s16(group(g), group(g + 1)),
                    vpaddq_s16(group(g + 2), group(g + 3)),
                )
            };
            let (first, second) = (four(0), four(4));
            let twice = vzip1q_s16(scales, scales);
            let total = vmlal_s16(total, vget_low_s16(first), vget_low_s16(twice));
            let total = vmlal_high_s16(total, first, twice);
            let twice = vzip2q_s16(scales, scales);
            let total = vmlal_s16(total, vget_low_s16(second), vget_low_s16(twice));
            vmlal_high_s16(total, second, twice)
        }
    }

    #[inline(always)]
    unsafe fn block(weights: &[int8x16_t; 2], values: *const i8) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            // Two products of any 8-bit weights fit into 16 bits, as values are within -127 to 127.
            let pairs = vpaddlq_s16(products(weights[0], values));
            vpadalq_s16(pairs, products(weights[1], values.add(16)))
        }
    }
}

/// Armv8.2 with dot products: Cortex-A76, A78AE, Neoverse.
pub(super) struct DotProduct;

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

impl Isa for DotProduct {
    #[inline(always)]
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x4_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let scales = vmovl_s16(scales);
            let group = |g: usize| {
                let sums = sdot(vdupq_n_s32(0), weights[g * 2], values.add(g * 32));
                sdot(sums, weights[g * 2 + 1], values.add(g * 32 + 16))
            };
            let total = vmlaq_laneq_s32::<0>(total, group(0), scales);
            let total = vmlaq_laneq_s32::<1>(total, group(1), scales);
            let total = vmlaq_laneq_s32::<2>(total, group(2), scales);
            vmlaq_laneq_s32::<3>(total, group(3), scales)
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
            let group = |g: usize| sdot(vdupq_n_s32(0), weights[g], values.add(g * 16));
            // Sums of four groups side by side meet their four scales at once.
            let four = |g: usize| {
                vpaddq_s32(
                    vpaddq_s32(group(g), group(g + 1)),
                    vpaddq_s32(group(g + 2), group(g + 3)),
                )
            };
            let total = vmlaq_s32(total, four(0), vmovl_s16(vget_low_s16(scales)));
            vmlaq_s32(total, four(4), vmovl_high_s16(scales))
        }
    }

    #[inline(always)]
    unsafe fn block(weights: &[int8x16_t; 2], values: *const i8) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let sums = sdot(vdupq_n_s32(0), weights[0], values);
            sdot(sums, weights[1], values.add(16))
        }
    }
}
