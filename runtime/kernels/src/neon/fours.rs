//! Products of 8-bit numbers by dot products, of two or four rows with four columns that lie side by side.
//!
//! What belongs together is one piece of assembly. Out of its parts the compiler would load so much ahead, and multiply by
//! scales so late, that it had to store what waits; a store costs as much as four products.

use std::arch::aarch64::*;
use std::arch::asm;

/// What sums start with, in memory: to load it costs nothing where all else is arithmetic. The compiler would make it,
/// or copy it, by an instruction that takes the place of a product.
#[repr(align(16))]
pub(super) struct Start(pub [i32; 4]);

/// Nothing.
pub(super) static ZERO: Start = Start([0; 4]);
/// Nothing for the sums of as many groups as [`group_of_16_by_four`] is told of at once.
pub(super) static ZEROS: [i32; 32] = [0; 32];
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

/// Adds to the totals of two rows, for four columns that lie side by side, the products of a group of 32 weights of
/// each row times lane `LANE` of the row's scales.
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
    // SAFETY: by the caller's word. It reads the values, and writes registers only.
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
