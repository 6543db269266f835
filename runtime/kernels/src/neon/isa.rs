//! The two instruction sets: how products of 8-bit numbers are made and added.

use std::arch::aarch64::*;
use std::arch::asm;

/// What both can do with the weights of one row, each in its own way, with the same result.
///
/// All functions ask of the CPU what their implementation is for, and of `values` that as many may be read as
/// there are weights.
pub(super) trait Isa {
    /// Whether four values may be multiplied with four rows at once.
    const BY_ELEMENT: bool;

    /// Adds to `total` the products of 128 weights, each within -31 to 31, in four groups, each times its scale, of
    /// `scales` the lower four.
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// The same of eight groups of weights within -32 to 31.
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
    const BY_ELEMENT: bool = false;

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
            let group = |g: usize| {
                let sums = products(weights[g * 2], values.add(g * 32));
                add_products(sums, weights[g * 2 + 1], values.add(g * 32 + 16))
            };
            let pair = vpaddq_s16(group(0), group(1));
            let total = vmlal_laneq_s16::<0>(total, vget_low_s16(pair), scales);
            let total = vmlal_high_laneq_s16::<1>(total, pair, scales);
            let pair = vpaddq_s16(group(2), group(3));
            let total = vmlal_laneq_s16::<2>(total, vget_low_s16(pair), scales);
            vmlal_high_laneq_s16::<3>(total, pair, scales)
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
            let two = |g: usize| vpaddq_s16(group(g), group(g + 1));
            let (first, second) = (vpaddq_s16(two(0), two(2)), vpaddq_s16(two(4), two(6)));
            let twice = vzip1q_s16(scales, scales);
            let total = vmlal_s16(total, vget_low_s16(first), vget_low_s16(twice));
            let total = vmlal_high_s16(total, first, twice);
            let twice = vzip2q_s16(scales, scales);
            let total = vmlal_s16(total, vget_low_s16(second), vget_low_s16(twice));
            vmlal_high_s16(total, second, twice)
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

/// Adds to the sum of each of four rows the products of its next sixteen weights with sixteen values; in `weights`,
/// the first four of each row, then the next.
///
/// # Safety
/// The CPU has dot products; `values` is valid for reading 16 bytes.
#[inline(always)]
pub(super) unsafe fn sdot_rows(
    sums: int32x4_t,
    weights: &[int8x16_t; 4],
    values: *const i8,
) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: by the caller's word. It reads and writes registers only.
    unsafe {
        let values = vld1q_s8(values);
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {a:v}.16b, {values:v}.4b[0]",
            "sdot {sums:v}.4s, {b:v}.16b, {values:v}.4b[1]",
            "sdot {sums:v}.4s, {c:v}.16b, {values:v}.4b[2]",
            "sdot {sums:v}.4s, {d:v}.16b, {values:v}.4b[3]",
            sums = inout(vreg) sums,
            a = in(vreg) weights[0],
            b = in(vreg) weights[1],
            c = in(vreg) weights[2],
            d = in(vreg) weights[3],
            values = in(vreg) values,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// What each scale, of four that belong together, is greater than the next one.
///
/// Sums that go on from group to group, each times what its scale is greater than the next one's, add up to the
/// groups' own sums times their scales, and none has to begin at zero.
#[inline(always)]
pub(super) fn differences(scales: int16x8_t) -> int16x8_t {
    // SAFETY: each arm64 CPU has NEON.
    unsafe {
        let next = vextq_s16::<1>(scales, scales);
        let within_four = vreinterpretq_s16_u64(vdupq_n_u64(0x0000_ffff_ffff_ffff));
        vsubq_s16(scales, vandq_s16(next, within_four))
    }
}

impl Isa for DotProduct {
    const BY_ELEMENT: bool = true;

    #[inline(always)]
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let scales = vmovl_s16(vget_low_s16(differences(scales)));
            let add = |sums: int32x4_t, g: usize| {
                let sums = sdot(sums, weights[g * 2], values.add(g * 32));
                sdot(sums, weights[g * 2 + 1], values.add(g * 32 + 16))
            };
            four_groups(total, add, scales)
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
            let scales = differences(scales);
            let add = |sums, g: usize| sdot(sums, weights[g], values.add(g * 16));
            let total = four_groups(total, add, vmovl_s16(vget_low_s16(scales)));
            let add = |sums, g: usize| sdot(sums, weights[4 + g], values.add(64 + g * 16));
            four_groups(total, add, vmovl_high_s16(scales))
        }
    }

    #[inline(always)]
    unsafe fn block(weights: [int8x16_t; 2], values: *const i8) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let sums = sdot(vdupq_n_s32(0), weights[0], values);
            sdot(sums, weights[1], values.add(16))
        }
    }
}

/// Adds to `total` sums that go on through four groups, each times one of `scales`.
#[inline(always)]
fn four_groups(
    total: int32x4_t,
    add: impl Fn(int32x4_t, usize) -> int32x4_t,
    scales: int32x4_t,
) -> int32x4_t {
    // SAFETY: each arm64 CPU has NEON.
    let sums = add(unsafe { vdupq_n_s32(0) }, 0);
    let total = add_scaled::<0>(total, sums, scales);
    let sums = add(sums, 1);
    let total = add_scaled::<1>(total, sums, scales);
    let sums = add(sums, 2);
    let total = add_scaled::<2>(total, sums, scales);
    let sums = add(sums, 3);
    add_scaled::<3>(total, sums, scales)
}

/// Adds `sums` times a lane of `scales` to `total`.
#[inline(always)]
fn add_scaled<const LANE: i32>(total: int32x4_t, sums: int32x4_t, scales: int32x4_t) -> int32x4_t {
    let mut total = total;
    // SAFETY: each arm64 CPU has it, and it reads and writes registers only. The compiler would spread each lane over
    // a register of its own.
    unsafe {
        asm!(
            "mla {total:v}.4s, {sums:v}.4s, {scales:v}.s[{lane}]",
            total = inout(vreg) total,
            sums = in(vreg) sums,
            scales = in(vreg) scales,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    total
}
