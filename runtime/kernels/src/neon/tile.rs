//! How rows meet columns that lie side by side: what instruction sets that multiply several at once have to offer.
//!
//! What belongs together is one piece of assembly. Out of its parts the compiler would load so much ahead, and multiply by
//! scales so late, that it had to store what waits; a store costs as much as four products.

use std::arch::aarch64::*;
use std::arch::asm;

use super::source::Source;

/// Two rows at a time meet [`Tile::COLUMNS`] columns that lie side by side; their sums take `N` registers.
///
/// All functions ask of the CPU what their implementation is for, and of `values` and `starts` that as many may be read
/// as there are for these columns. Of each column in turn come `16 / COLUMNS` values, then the next as many of each.
pub(crate) trait Tile<const N: usize> {
    const COLUMNS: usize;
    /// The scales of four groups of each of two rows.
    type Scales: Copy;

    /// How many times columns side by side may be multiplied at once, for their sums to stay in registers.
    const MOST: usize = 8 / Self::COLUMNS;

    /// Two rows, as they have to be unpacked to meet columns.
    fn sources(rows: [*const u8; 2]) -> (impl Source, impl Source);

    /// The lower four of two rows' scales.
    unsafe fn scales(a: int16x8_t, b: int16x8_t) -> Self::Scales;

    /// Four rows' numbers, in the lanes where the sums of the first two rows have theirs, and those of the others.
    unsafe fn of_rows(numbers: float32x4_t) -> [[float32x4_t; N]; 2];

    /// Adds the products of a group of 32 weights of each row times its scale, of which `LANE` is that of the group.
    /// `values` are those of the group of `LANE`'s next lower even number.
    unsafe fn group_of_32<const LANE: usize>(
        totals: [int32x4_t; N],
        weights: [[int8x16_t; 2]; 2],
        values: *const i8,
        scales: Self::Scales,
    ) -> [int32x4_t; N];

    /// The same of a group of 16 weights, whose sums start with what is behind `starts`. Of both, and of `values`, it is
    /// told where those of lane 0 are, of every other group of which there is a lane.
    unsafe fn group_of_16<const LANE: usize>(
        totals: [int32x4_t; N],
        weights: [int8x16_t; 2],
        values: *const i8,
        starts: *const u8,
        scales: Self::Scales,
    ) -> [int32x4_t; N];

    /// Adds the products of eight weights of each row with the values behind `AT` times eight.
    unsafe fn eight<const AT: usize>(
        totals: [int32x4_t; N],
        weights: [uint8x8_t; 2],
        values: *const i8,
    ) -> [int32x4_t; N];

    /// Adds the products of sixteen weights of each of four rows with the values behind `AT` times sixteen.
    unsafe fn four_rows<const AT: usize>(
        totals: [[int32x4_t; N]; 2],
        weights: [[int8x16_t; 2]; 2],
        values: *const i8,
    ) -> [[int32x4_t; N]; 2];

    /// The sums of four rows, for each column.
    unsafe fn by_column(sums: [[float32x4_t; N]; 2], to: impl FnMut(usize, float32x4_t));
}

/// What sums start with, in memory: to load it costs nothing where all else is arithmetic. The compiler would make it,
/// or copy it, by an instruction that takes the place of a product.
#[repr(align(16))]
pub(super) struct Start(pub [i32; 4]);

/// Nothing.
pub(super) static ZERO: Start = Start([0; 4]);
/// Nothing for the sums of as many groups as [`Tile::group_of_16`] is told of at once.
pub(super) static ZEROS: [i32; 32] = [0; 32];
/// The bits of [`rounding::WHOLE`](crate::rounding::WHOLE), to which the sum of a block of 32 may be added.
pub(super) static WHOLE: Start = Start([crate::rounding::WHOLE.to_bits() as i32; 4]);

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
