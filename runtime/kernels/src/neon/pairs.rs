//! Columns side by side in pairs, by products of matrices: eight values of each of two columns with eight weights of each
//! of two rows in one instruction.

use std::arch::aarch64::*;
use std::arch::asm;

use super::source::{Half, Source};
use super::tile::{Tile, ZERO};

/// Armv8.6's products of 8-bit matrices: Cortex-A710, Neoverse V1 and N2, Apple's M2.
pub(super) struct I8mm;

/// Of each column in turn, the sum of the first row, then that of the second.
impl Tile<1> for I8mm {
    const COLUMNS: usize = 2;
    type Scales = [int32x4_t; 4];

    #[inline(always)]
    fn sources(rows: [*const u8; 2]) -> (impl Source, impl Source) {
        (Half::<false>(rows), Half::<true>(rows))
    }

    #[inline(always)]
    unsafe fn scales(a: int16x8_t, b: int16x8_t) -> [int32x4_t; 4] {
        // SAFETY: each arm64 CPU has NEON.
        unsafe {
            let both = vzip1q_s16(a, b);
            let low = vreinterpretq_s64_s32(vmovl_s16(vget_low_s16(both)));
            let high = vreinterpretq_s64_s32(vmovl_high_s16(both));
            [
                vreinterpretq_s32_s64(vdupq_laneq_s64::<0>(low)),
                vreinterpretq_s32_s64(vdupq_laneq_s64::<1>(low)),
                vreinterpretq_s32_s64(vdupq_laneq_s64::<0>(high)),
                vreinterpretq_s32_s64(vdupq_laneq_s64::<1>(high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn of_rows(numbers: float32x4_t) -> [[float32x4_t; 1]; 2] {
        // SAFETY: each arm64 CPU has NEON.
        unsafe {
            let numbers = vreinterpretq_f64_f32(numbers);
            [
                [vreinterpretq_f32_f64(vdupq_laneq_f64::<0>(numbers))],
                [vreinterpretq_f32_f64(vdupq_laneq_f64::<1>(numbers))],
            ]
        }
    }

    #[inline(always)]
    unsafe fn by_column(
        [[ab], [cd]]: [[float32x4_t; 1]; 2],
        mut to: impl FnMut(usize, float32x4_t),
    ) {
        // SAFETY: each arm64 CPU has NEON.
        unsafe {
            let (ab, cd) = (vreinterpretq_f64_f32(ab), vreinterpretq_f64_f32(cd));
            to(0, vreinterpretq_f32_f64(vzip1q_f64(ab, cd)));
            to(1, vreinterpretq_f32_f64(vzip2q_f64(ab, cd)));
        }
    }

    #[inline(always)]
    unsafe fn group_of_32<const LANE: usize>(
        [mut total]: [int32x4_t; 1],
        weights: [[int8x16_t; 2]; 2],
        values: *const i8,
        scales: [int32x4_t; 4],
    ) -> [int32x4_t; 1] {
        // SAFETY: by the caller's word. It reads what is said, and writes registers only.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "ldr {sums:q}, [{zero}]",
                "ldr {pair:q}, [{values}, #({lane} & 1) * 64 + 0]",
                "smmla {sums:v}.4s, {pair:v}.16b, {a:v}.16b",
                "ldr {pair:q}, [{values}, #({lane} & 1) * 64 + 16]",
                "smmla {sums:v}.4s, {pair:v}.16b, {b:v}.16b",
                "ldr {pair:q}, [{values}, #({lane} & 1) * 64 + 32]",
                "smmla {sums:v}.4s, {pair:v}.16b, {c:v}.16b",
                "ldr {pair:q}, [{values}, #({lane} & 1) * 64 + 48]",
                "smmla {sums:v}.4s, {pair:v}.16b, {d:v}.16b",
                "mla {total:v}.4s, {sums:v}.4s, {scales:v}.4s",
                total = inout(vreg) total,
                sums = out(vreg) _,
                pair = out(vreg) _,
                a = in(vreg) weights[0][0],
                b = in(vreg) weights[0][1],
                c = in(vreg) weights[1][0],
                d = in(vreg) weights[1][1],
                scales = in(vreg) scales[LANE],
                lane = const LANE,
                zero = in(reg) &raw const ZERO.0,
                values = in(reg) values,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [total]
    }

    #[inline(always)]
    unsafe fn group_of_16<const LANE: usize>(
        [mut total]: [int32x4_t; 1],
        weights: [int8x16_t; 2],
        values: *const i8,
        starts: *const u8,
        scales: [int32x4_t; 4],
    ) -> [int32x4_t; 1] {
        // SAFETY: as above.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "ldr {sums:q}, [{starts}, #{lane} * 32]",
                "ldr {pair:q}, [{values}, #{lane} * 64 + 0]",
                "smmla {sums:v}.4s, {pair:v}.16b, {a:v}.16b",
                "ldr {pair:q}, [{values}, #{lane} * 64 + 16]",
                "smmla {sums:v}.4s, {pair:v}.16b, {b:v}.16b",
                "mla {total:v}.4s, {sums:v}.4s, {scales:v}.4s",
                total = inout(vreg) total,
                sums = out(vreg) _,
                pair = out(vreg) _,
                a = in(vreg) weights[0],
                b = in(vreg) weights[1],
                scales = in(vreg) scales[LANE],
                lane = const LANE,
                starts = in(reg) starts,
                values = in(reg) values,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [total]
    }

    #[inline(always)]
    unsafe fn eight<const AT: usize>(
        [mut total]: [int32x4_t; 1],
        [a, b]: [uint8x8_t; 2],
        values: *const i8,
    ) -> [int32x4_t; 1] {
        // SAFETY: as above.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "ldr {pair:q}, [{values}, #{at} * 16]",
                "smmla {total:v}.4s, {pair:v}.16b, {both:v}.16b",
                total = inout(vreg) total,
                pair = out(vreg) _,
                both = in(vreg) vcombine_u8(a, b),
                at = const AT,
                values = in(reg) values,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [total]
    }

    #[inline(always)]
    unsafe fn four_rows<const AT: usize>(
        [[mut ab], [mut cd]]: [[int32x4_t; 1]; 2],
        weights: [[int8x16_t; 2]; 2],
        values: *const i8,
    ) -> [[int32x4_t; 1]; 2] {
        // SAFETY: as above.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "ldr {pair:q}, [{values}, #{at} * 32 + 0]",
                "smmla {ab:v}.4s, {pair:v}.16b, {ab_low:v}.16b",
                "smmla {cd:v}.4s, {pair:v}.16b, {cd_low:v}.16b",
                "ldr {pair:q}, [{values}, #{at} * 32 + 16]",
                "smmla {ab:v}.4s, {pair:v}.16b, {ab_high:v}.16b",
                "smmla {cd:v}.4s, {pair:v}.16b, {cd_high:v}.16b",
                ab = inout(vreg) ab,
                cd = inout(vreg) cd,
                pair = out(vreg) _,
                ab_low = in(vreg) weights[0][0],
                ab_high = in(vreg) weights[0][1],
                cd_low = in(vreg) weights[1][0],
                cd_high = in(vreg) weights[1][1],
                at = const AT,
                values = in(reg) values,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [[ab], [cd]]
    }
}
