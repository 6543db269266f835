//! K-quants: super-blocks of 256 weights whose groups have small scales of their own, multiplied with one f16
//! of the super-block. A type says how its super-blocks are unpacked; the rest is the same for all.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::ahead::{InOrder, RowByRow};
use super::tile::{ROWS, Rows, Tile, spread};
use super::totals::{add_block, add_group, starts};
use super::{Kernel, TILES};
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(crate) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Weights that share a scale: 16 or 32.
    const GROUP: usize;
    /// What an unpacked weight of zero stands at, for types that have no offsets. Of groups of 16, columns have the
    /// product of their sums with it.
    const ZERO: i32 = 0;
    /// Values whose sum is multiplied with an offset: 16 or 32.
    const SUMS_OF: usize = 16;
    /// Parts of a super-block, each of as many groups, whose weights are unpacked from the same bytes.
    const PARTS: usize;
    /// The groups in the order in which the parts have them, and their products are added up, if not one after the other.
    const ORDER: Option<[usize; 16]> = None;

    /// Bits of weights that several parts share, and those of one part: in a register, of four weights of each row or more.
    type Shared;
    type Part;

    /// Unpacks the scales and offsets of each row's super-block that begins at byte `at` to the tile's super-block
    /// `index`.
    ///
    /// # Safety
    /// As [`Kernel::unpack`], for one block; the tile has room for it.
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize);

    /// What the parts of each row's super-block that begins at byte `at` share.
    ///
    /// # Safety
    /// The CPU is available; each row is valid for reading the super-block.
    unsafe fn shared(rows: &Rows, at: usize) -> Self::Shared;

    /// Part `part` of it.
    ///
    /// # Safety
    /// As for [`SuperBlock::shared`].
    unsafe fn part(rows: &Rows, at: usize, part: usize) -> Self::Part;

    /// Of the part's group number `i`, the weights from `4 * four` on, unsigned, four of each row.
    ///
    /// # Safety
    /// The CPU is available.
    unsafe fn weights(
        shared: &Self::Shared,
        bits: &Self::Part,
        part: usize,
        i: usize,
        four: usize,
    ) -> __m512i;

    /// The total of the products of each group's weights with a column's 256 `values`; a group in each register.
    /// Groups that the type has not are left out. As many bytes as the rows' super-blocks have are asked for `ahead`.
    ///
    /// # Safety
    /// As [`SuperBlock::shared`]; `values` is valid for reading.
    unsafe fn totals(
        rows: &Rows,
        ahead: &mut InOrder,
        at: usize,
        values: *const i8,
    ) -> [__m512i; 16];
}

/// The kernel of a [`SuperBlock`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: SuperBlock> Of<B> {
    const GROUPS: usize = 256 / B::GROUP;
    const GROUPS_OF_PART: usize = Self::GROUPS / B::PARTS;
    /// Fours of weights in a group.
    const FOURS: usize = B::GROUP / 4;

    /// The `i`th group in order.
    #[inline(always)]
    fn group(i: usize) -> usize {
        B::ORDER.map_or(i, |order| order[i])
    }
}

impl<B: SuperBlock> Kernel for Of<B> {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = B::BYTES;
    const ZERO: i32 = if B::GROUP == 16 { B::ZERO } else { 0 };
    const SUMS_OF: usize = B::SUMS_OF;

    // By itself it keeps more in registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline(never)]
    unsafe fn unpack(rows: &Rows, blocks: usize, tile: *mut Tile) {
        for block in 0..blocks {
            let at = block * B::BYTES;
            // SAFETY: the rows have this block, and the tile has room for as many.
            unsafe {
                let to = (&raw mut (*tile).weights).cast::<__m512i>().add(block * 64);
                B::unpack_scales(rows, at, tile, block);
                let shared = B::shared(rows, at);
                for part in 0..B::PARTS {
                    let bits = B::part(rows, at, part);
                    for i in 0..Self::GROUPS_OF_PART {
                        let to = to.add(Self::group(part * Self::GROUPS_OF_PART + i) * Self::FOURS);
                        for four in 0..Self::FOURS {
                            let weights = B::weights(&shared, &bits, part, i, four);
                            to.add(four).write(weights);
                        }
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply<const C: usize>(
        tiles: *const Tile,
        ahead: &[RowByRow; TILES],
        blocks: usize,
        columns: &[Column; C],
        first: usize,
        sums: &mut [[__m512; C]; TILES],
    ) {
        for block in 0..blocks {
            // SAFETY: the tiles and the columns have this block.
            unsafe {
                let mut scaled = [[_mm512_setzero_ps(); C]; TILES];
                for i in 0..Self::GROUPS {
                    let group = Self::group(i);
                    for ahead in ahead {
                        ahead.ask(ROWS * B::BYTES / Self::GROUPS);
                    }
                    let mut totals = [starts::<B, C>(columns, first + block, group); TILES];
                    for four in 0..Self::FOURS {
                        let mut weights = [_mm512_setzero_si512(); TILES];
                        for (r, weights) in weights.iter_mut().enumerate() {
                            let of_tile = (&raw const (*tiles.add(r)).weights).cast::<__m512i>();
                            *weights = *of_tile.add(block * 64 + group * Self::FOURS + four);
                        }
                        for (c, column) in columns.iter().enumerate() {
                            let at = (first + block) * 256 + group * B::GROUP + four * 4;
                            let values = spread(column.values.add(at));
                            for r in 0..TILES {
                                totals[r][c] =
                                    _mm512_dpbusd_epi32(totals[r][c], weights[r], values);
                            }
                        }
                    }
                    add_group(tiles, block * Self::GROUPS + group, &totals, &mut scaled);
                }
                add_block::<B, TILES, C>(tiles, block, columns, first + block, &scaled, sums);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply_few<const C: usize>(
        rows: &Rows,
        mut ahead: InOrder,
        blocks: usize,
        tile: *mut Tile,
        columns: &[Column; C],
        sums: &mut [__m512; C],
    ) {
        let mut all = [*sums];
        for block in 0..blocks {
            let at = block * B::BYTES;
            // SAFETY: the rows and the columns have this block; the tile has room for the scales of one.
            unsafe {
                B::unpack_scales(rows, at, tile, 0);
                let shared = B::shared(rows, at);
                let mut scaled = [[_mm512_setzero_ps(); C]];
                for part in 0..B::PARTS {
                    let bits = B::part(rows, at, part);
                    for i in 0..Self::GROUPS_OF_PART {
                        let group = Self::group(part * Self::GROUPS_OF_PART + i);
                        let mut totals = starts::<B, C>(columns, block, group);
                        for four in 0..Self::FOURS {
                            let step = i * Self::FOURS + four;
                            let steps = Self::GROUPS_OF_PART * Self::FOURS;
                            ahead.ask(step, steps, ROWS * B::BYTES / B::PARTS);
                            let weights = B::weights(&shared, &bits, part, i, four);
                            let at = block * 256 + group * B::GROUP + four * 4;
                            for (c, column) in columns.iter().enumerate() {
                                let values = spread(column.values.add(at));
                                totals[c] = _mm512_dpbusd_epi32(totals[c], weights, values);
                            }
                        }
                        add_group(tile, group, &[totals], &mut scaled);
                    }
                }
                add_block::<B, 1, C>(tile, 0, columns, block, &scaled, &mut all);
            }
        }
        [*sums] = all;
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply_lone(
        rows: &Rows,
        mut ahead: InOrder,
        blocks: usize,
        tile: *mut Tile,
        column: &Column,
        sum: &mut __m512,
    ) {
        let mut sums = [[*sum]];
        for block in 0..blocks {
            let at = block * B::BYTES;
            // SAFETY: the rows and the column have this block; the tile has room for the scales of one.
            unsafe {
                B::unpack_scales(rows, at, tile, 0);
                let totals = B::totals(rows, &mut ahead, at, column.values.add(block * 256));
                let mut scaled = [[_mm512_setzero_ps()]];
                for i in 0..Self::GROUPS {
                    let group = Self::group(i);
                    let [start] = starts::<B, 1>(&[*column], block, group);
                    let total = _mm512_add_epi32(totals[group], start);
                    add_group(tile, group, &[[total]], &mut scaled);
                }
                add_block::<B, 1, 1>(tile, 0, &[*column], block, &scaled, &mut sums);
            }
        }
        [[*sum]] = sums;
    }
}
