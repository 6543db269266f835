//! Columns side by side in fours, by dot products: four values of each column with four weights of a row in one
//! instruction.

use std::arch::aarch64::*;
use std::arch::asm;

use super::dot_product::DotProduct;
use super::rows::transposed;
use super::source::Source;
use super::tile::{Tile, ZERO};

impl Tile<2> for DotProduct {
    const COLUMNS: usize = 4;
    type Scales = [int32x4_t; 2];

    #[inline(always)]
    fn sources([a, b]: [*const u8; 2]) -> (impl Source, impl Source) {
        (a, b)
    }

    #[inline(always)]
    unsafe fn scales(a: int16x8_t, b: int16x8_t) -> [int32x4_t; 2] {
        // SAFETY: each arm64 CPU has NEON.
        unsafe { [vmovl_s16(vget_low_s16(a)), vmovl_s16(vget_low_s16(b))] }
    }

    #[inline(always)]
    unsafe fn of_rows(numbers: float32x4_t) -> [[float32x4_t; 2]; 2] {
        // SAFETY: each arm64 CPU has NEON.
        unsafe {
            [
                [vdupq_laneq_f32::<0>(numbers), vdupq_laneq_f32::<1>(numbers)],
                [vdupq_laneq_f32::<2>(numbers), vdupq_laneq_f32::<3>(numbers)],
            ]
        }
    }

    #[inline(always)]
    unsafe fn by_column(
        [[a, b], [c, d]]: [[float32x4_t; 2]; 2],
        mut to: impl FnMut(usize, float32x4_t),
    ) {
        for (column, sums) in transposed([a, b, c, d]).into_iter().enumerate() {
            to(column, sums);
        }
    }

    #[inline(always)]
    unsafe fn group_of_32<const LANE: usize>(
        [a, b]: [int32x4_t; 2],
        weights: [[int8x16_t; 2]; 2],
        values: *const i8,
        scales: Self::Scales,
    ) -> [int32x4_t; 2] {
        let (mut a, mut b) = (a, b);
        // SAFETY: by the caller's word. It reads what is said, and writes registers only.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "ldr {sa:q}, [{zero}]",
                "ldr {sb:q}, [{zero}]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 0]",
                "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[0]",
                "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[0]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 16]",
                "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[1]",
                "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[1]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 32]",
                "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[2]",
                "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[2]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 48]",
                "sdot {sa:v}.4s, {four:v}.16b, {va:v}.4b[3]",
                "sdot {sb:v}.4s, {four:v}.16b, {vb:v}.4b[3]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 64]",
                "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
                "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 80]",
                "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
                "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 96]",
                "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[2]",
                "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[2]",
                "ldr {four:q}, [{values}, #({lane} & 1) * 128 + 112]",
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
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [a, b]
    }

    #[inline(always)]
    unsafe fn group_of_16<const LANE: usize>(
        [a, b]: [int32x4_t; 2],
        weights: [int8x16_t; 2],
        values: *const i8,
        starts: *const u8,
        scales: Self::Scales,
    ) -> [int32x4_t; 2] {
        let (mut a, mut b) = (a, b);
        // SAFETY: by the caller's word. It reads what is said, and writes registers only.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "ldr {sa:q}, [{start}, #{lane} * 32]",
                "ldr {sb:q}, [{start}, #{lane} * 32]",
                "ldr {four:q}, [{values}, #{lane} * 128 + 0]",
                "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
                "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
                "ldr {four:q}, [{values}, #{lane} * 128 + 16]",
                "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
                "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
                "ldr {four:q}, [{values}, #{lane} * 128 + 32]",
                "sdot {sa:v}.4s, {four:v}.16b, {wa:v}.4b[2]",
                "sdot {sb:v}.4s, {four:v}.16b, {wb:v}.4b[2]",
                "ldr {four:q}, [{values}, #{lane} * 128 + 48]",
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
                by_a = in(vreg) scales[0],
                by_b = in(vreg) scales[1],
                lane = const LANE,
                four = out(vreg) _,
                values = in(reg) values,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [a, b]
    }

    #[inline(always)]
    unsafe fn eight<const AT: usize>(
        [a, b]: [int32x4_t; 2],
        weights: [uint8x8_t; 2],
        values: *const i8,
    ) -> [int32x4_t; 2] {
        let (mut a, mut b) = (a, b);
        // SAFETY: as above.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "ldr {four:q}, [{values}, #{at} * 32]",
                "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
                "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
                "ldr {four:q}, [{values}, #{at} * 32 + 16]",
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

    #[inline(always)]
    unsafe fn four_rows<const AT: usize>(
        [[a, b], [c, d]]: [[int32x4_t; 2]; 2],
        weights: [[int8x16_t; 2]; 2],
        values: *const i8,
    ) -> [[int32x4_t; 2]; 2] {
        let (mut a, mut b, mut c, mut d) = (a, b, c, d);
        // SAFETY: by the caller's word. It reads the values, and writes registers only.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "ldr {four:q}, [{values}, #{at} * 64 + 0]",
                "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[0]",
                "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[0]",
                "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[0]",
                "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[0]",
                "ldr {four:q}, [{values}, #{at} * 64 + 16]",
                "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[1]",
                "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[1]",
                "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[1]",
                "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[1]",
                "ldr {four:q}, [{values}, #{at} * 64 + 32]",
                "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[2]",
                "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[2]",
                "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[2]",
                "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[2]",
                "ldr {four:q}, [{values}, #{at} * 64 + 48]",
                "sdot {a:v}.4s, {four:v}.16b, {wa:v}.4b[3]",
                "sdot {b:v}.4s, {four:v}.16b, {wb:v}.4b[3]",
                "sdot {c:v}.4s, {four:v}.16b, {wc:v}.4b[3]",
                "sdot {d:v}.4s, {four:v}.16b, {wd:v}.4b[3]",
                a = inout(vreg) a,
                b = inout(vreg) b,
                c = inout(vreg) c,
                d = inout(vreg) d,
                wa = in(vreg) weights[0][0],
                wb = in(vreg) weights[0][1],
                wc = in(vreg) weights[1][0],
                wd = in(vreg) weights[1][1],
                four = out(vreg) _,
                values = in(reg) values,
                at = const AT,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [[a, b], [c, d]]
    }
}
