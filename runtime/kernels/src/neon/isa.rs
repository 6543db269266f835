//! The two instruction sets: how products of 8-bit numbers are made and added.

use std::arch::aarch64::*;
use std::arch::asm;

use super::rows::sums_of_lanes;

/// What both can do with the weights of one row, each in its own way, with the same result.
///
/// All functions ask of the CPU what their implementation is for, and of `values` that as many may be read as
/// there are weights.
pub(super) trait Isa {
    /// Adds to `total` the products of 128 weights, each within 0 to 31, in four groups, each times its scale, of
    /// `scales` the lower four.
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t;

    /// The same of eight groups of weights within 0 to 63, where 32 is zero; of each 16 values, `sums` are the sums.
    unsafe fn groups_of_16(
        weights: &[int8x16_t; 8],
        values: *const i8,
        sums: int16x8_t,
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
        _: int16x8_t,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            // Two products in each of eight numbers; eight in each after two pairwise additions, at most 8 * 32 * 127.
            let zero = vdupq_n_s8(32);
            let group = |g: usize| products(vsubq_s8(weights[g], zero), values.add(g * 16));
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

/// Adds to the totals of two rows, for four columns that lie side by side, the products of a group of 32 weights of
/// each row times lane `LANE` of the row's scales.
///
/// One piece of assembly, as the compiler would load so much ahead, and multiply by scales so late, that it had to
/// store what waits; and values are loaded where a product takes the place of nothing else.
///
/// # Safety
/// The CPU has dot products; `values` is valid for reading 128 bytes from byte `AT` on.
#[inline(always)]
pub(super) unsafe fn group_of_32_by_four<const LANE: usize, const AT: usize>(
    [a, b]: [int32x4_t; 2],
    weights: [[int8x16_t; 2]; 2],
    values: *const i8,
    scales: [int32x4_t; 2],
) -> [int32x4_t; 2] {
    let (mut a, mut b) = (a, b);
    // SAFETY: by the caller's word. It reads what is said, and writes registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "ldr {sa:q}, [{zero}]",
            "ldr {sb:q}, [{zero}]",
            "ldr {four:q}, [{values}, #{at} + 0]",
            "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[0]",
            "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[0]",
            "ldr {four:q}, [{values}, #{at} + 16]",
            "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[1]",
            "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[1]",
            "ldr {four:q}, [{values}, #{at} + 32]",
            "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[2]",
            "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[2]",
            "ldr {four:q}, [{values}, #{at} + 48]",
            "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[3]",
            "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[3]",
            "ldr {four:q}, [{values}, #{at} + 64]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
            "ldr {four:q}, [{values}, #{at} + 80]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
            "ldr {four:q}, [{values}, #{at} + 96]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[2]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[2]",
            "ldr {four:q}, [{values}, #{at} + 112]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[3]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[3]",
            "mla {a:v}.4s, {sa:v}.4s, {by_a:v}.s[{lane}]",
            "mla {b:v}.4s, {sb:v}.4s, {by_b:v}.s[{lane}]",
            a = inout(vreg) a,
            b = inout(vreg) b,
            sa = out(vreg) _,
            sb = out(vreg) _,
            va = in(vreg) weights[0][0],
            vb = in(vreg) weights[0][1],
            wa = in(vreg) weights[1][0],
            wb = in(vreg) weights[1][1],
            zero = in(reg) &raw const ZERO.0,
            by_a = in(vreg) scales[0],
            by_b = in(vreg) scales[1],
            lane = const LANE,
            four = out(vreg) _,
            values = in(reg) values,
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [a, b]
}

/// As [`group_of_32_by_four`], of a group of 16 weights, whose sums start with the numbers at byte `START` of `starts`.
///
/// # Safety
/// As there, of 64 bytes; and `starts` is valid for reading four numbers there.
#[inline(always)]
pub(super) unsafe fn group_of_16_by_four<const LANE: usize, const AT: usize, const START: usize>(
    [a, b]: [int32x4_t; 2],
    weights: [int8x16_t; 2],
    values: *const i8,
    starts: *const u8,
    scales: [int32x4_t; 2],
) -> [int32x4_t; 2] {
    let (mut a, mut b) = (a, b);
    // SAFETY: by the caller's word. It reads what is said, and writes registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "ldr {sa:q}, [{start}, #{start_at}]",
            "ldr {sb:q}, [{start}, #{start_at}]",
            "ldr {four:q}, [{values}, #{at} + 0]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
            "ldr {four:q}, [{values}, #{at} + 16]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
            "ldr {four:q}, [{values}, #{at} + 32]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[2]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[2]",
            "ldr {four:q}, [{values}, #{at} + 48]",
            "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[3]",
            "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[3]",
            "mla {a:v}.4s, {sa:v}.4s, {by_a:v}.s[{lane}]",
            "mla {b:v}.4s, {sb:v}.4s, {by_b:v}.s[{lane}]",
            a = inout(vreg) a,
            b = inout(vreg) b,
            sa = out(vreg) _,
            sb = out(vreg) _,
            wa = in(vreg) weights[0],
            wb = in(vreg) weights[1],
            start = in(reg) starts,
            start_at = const START,
            by_a = in(vreg) scales[0],
            by_b = in(vreg) scales[1],
            lane = const LANE,
            four = out(vreg) _,
            values = in(reg) values,
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [a, b]
}

/// The products of eight weights of each of two rows with four columns that lie side by side.
///
/// # Safety
/// The CPU has dot products; `values` is valid for reading 32 bytes from byte `AT` on.
#[inline(always)]
pub(super) unsafe fn eight_by_four<const AT: usize>(
    [a, b]: [int32x4_t; 2],
    weights: [uint8x8_t; 2],
    values: *const i8,
) -> [int32x4_t; 2] {
    let (mut a, mut b) = (a, b);
    // SAFETY: as above.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "ldr {four:q}, [{values}, #{at}]",
            "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
            "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
            "ldr {four:q}, [{values}, #{at} + 16]",
            "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
            "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
            a = inout(vreg) a,
            b = inout(vreg) b,
            wa = in(vreg) weights[0],
            wb = in(vreg) weights[1],
            four = out(vreg) _,
            values = in(reg) values,
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [a, b]
}

/// Adds to the sums of four rows, for four columns that lie side by side, the products of sixteen weights of each row.
///
/// # Safety
/// The CPU has dot products; `values` is valid for reading 64 bytes from byte `AT` on.
#[inline(always)]
pub(super) unsafe fn four_by_four<const AT: usize>(
    [a, b, c, d]: [int32x4_t; 4],
    weights: [int8x16_t; 4],
    values: *const i8,
) -> [int32x4_t; 4] {
    let (mut a, mut b, mut c, mut d) = (a, b, c, d);
    // SAFETY: by the caller's word. It reads the values, and writes registers only. The values are loaded here, as the
    // compiler would load so many ahead that it had to store others.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "ldr {four:q}, [{values}, #{at} + 0]",
            "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
            "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
            "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[0]",
            "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[0]",
            "ldr {four:q}, [{values}, #{at} + 16]",
            "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
            "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
            "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[1]",
            "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[1]",
            "ldr {four:q}, [{values}, #{at} + 32]",
            "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[2]",
            "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[2]",
            "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[2]",
            "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[2]",
            "ldr {four:q}, [{values}, #{at} + 48]",
            "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[3]",
            "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[3]",
            "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[3]",
            "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[3]",
            a = inout(vreg) a,
            b = inout(vreg) b,
            c = inout(vreg) c,
            d = inout(vreg) d,
            wa = in(vreg) weights[0],
            wb = in(vreg) weights[1],
            wc = in(vreg) weights[2],
            wd = in(vreg) weights[3],
            four = out(vreg) _,
            values = in(reg) values,
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

/// What sums start with, in memory: to load it costs nothing where all else is arithmetic. The compiler would make it,
/// or copy it, by an instruction that takes the place of a product.
#[repr(align(16))]
pub(super) struct Start([i32; 4]);

/// Nothing.
pub(super) static ZERO: Start = Start([0; 4]);
/// The bits of [`activation::WHOLE`](crate::activation::WHOLE), to which the sum of a block of 32 may be added.
pub(super) static WHOLE: Start = Start([crate::activation::WHOLE.to_bits() as i32; 4]);

impl Start {
    #[inline(always)]
    pub fn load(&'static self) -> int32x4_t {
        let start;
        // SAFETY: it reads sixteen bytes that are always there.
        unsafe {
            asm!(
                "ldr {start:q}, [{at}]",
                start = out(vreg) start,
                at = in(reg) &raw const self.0,
                options(readonly, nostack, preserves_flags),
            );
        }
        start
    }
}

impl Isa for DotProduct {
    #[inline(always)]
    unsafe fn groups_of_32(
        weights: &[int8x16_t; 8],
        values: *const i8,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            let group = |g: usize| {
                let sums = sdot(ZERO.load(), weights[g * 2], values.add(g * 32));
                sdot(sums, weights[g * 2 + 1], values.add(g * 32 + 16))
            };
            let sums = sums_of_lanes([group(0), group(1), group(2), group(3)]);
            vmlaq_s32(total, sums, vmovl_s16(vget_low_s16(scales)))
        }
    }

    #[inline(always)]
    unsafe fn groups_of_16(
        weights: &[int8x16_t; 8],
        values: *const i8,
        sums: int16x8_t,
        scales: int16x8_t,
        total: int32x4_t,
    ) -> int32x4_t {
        // SAFETY: by the caller's word.
        unsafe {
            // What weights of zero would add.
            let below = vshlq_n_s16::<5>(scales);
            let total = vmlsl_s16(total, vget_low_s16(below), vget_low_s16(sums));
            let total = vmlsl_high_s16(total, below, sums);
            let group = |g: usize| sdot(ZERO.load(), weights[g], values.add(g * 16));
            let sums = sums_of_lanes([group(0), group(1), group(2), group(3)]);
            let total = vmlaq_s32(total, sums, vmovl_s16(vget_low_s16(scales)));
            let sums = sums_of_lanes([group(4), group(5), group(6), group(7)]);
            vmlaq_s32(total, sums, vmovl_high_s16(scales))
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

/// The bits of `low`, and where `MASK` has ones, those of `high`.
#[inline(always)]
pub(super) fn insert<const MASK: u8>(low: uint8x16_t, high: uint8x16_t) -> uint8x16_t {
    let mut low = low;
    // SAFETY: each arm64 CPU has it, and it reads and writes registers only. The compiler would make three of it.
    unsafe {
        asm!(
            "bit {low:v}.16b, {high:v}.16b, {mask:v}.16b",
            low = inout(vreg) low,
            high = in(vreg) high,
            mask = in(vreg) vdupq_n_u8(MASK),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    low
}
