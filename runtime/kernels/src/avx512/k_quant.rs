//! K-quants: super-blocks of 256 weights whose groups have small scales of their own, multiplied with one f16
//! of the super-block. A type says how its super-blocks are unpacked; the rest is the same for all.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::lone::{gather, totals};
use super::tile::{Rows, Tile, floats, low_floats, spread};
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(super) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Weights that share a scale: 16 or 32.
    const GROUP: usize;
    /// What an unpacked weight of zero stands at, for types that have no offsets. Of groups of 16, columns have the
    /// product of their sums with it.
    const ZERO: i32 = 0;
    /// Values whose sum is multiplied with an offset: 16 or 32.
    const SUMS_OF: usize = 16;

    /// Unpacks the scales and offsets of each row's super-block that begins at byte `at` to the tile's super-block
    /// `index`.
    ///
    /// # Safety
    /// As [`Kernel::unpack`], for one block; the tile has room for it.
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize);

    /// As [`SuperBlock::unpack_scales`], the weights; meanwhile, memory is asked for the next ones.
    ///
    /// # Safety
    /// As there.
    unsafe fn unpack_weights(rows: &Rows, at: usize, tile: *mut Tile, index: usize);

    /// The total of the products of each group's weights with a column's 256 `values`; a group in each register.
    /// Groups that the type has not are left out.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack_scales`]; `values` is valid for reading.
    unsafe fn totals(rows: &Rows, at: usize, values: *const i8) -> [__m512i; 16];
}

/// The kernel of a [`SuperBlock`].
pub(super) struct Of<B>(PhantomData<B>);

impl<B: SuperBlock> Kernel for Of<B> {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = B::BYTES;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack(rows: &Rows, blocks: usize, tile: *mut Tile) {
        for block in 0..blocks {
            let at = block * B::BYTES;
            // SAFETY: the rows have this block, and the tile has room for as many.
            unsafe {
                B::unpack_scales(rows, at, tile, block);
                B::unpack_weights(rows, at, tile, block);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply<const R: usize, const C: usize>(
        tiles: *const Tile,
        rows: Option<&[Rows; R]>,
        blocks: usize,
        columns: &[Column; C],
        first: usize,
        sums: &mut [[__m512; C]; R],
    ) {
        let groups = 256 / B::GROUP;
        for block in 0..blocks {
            // SAFETY: the tiles and the columns have this block.
            unsafe {
                let mut scaled = [[_mm512_setzero_ps(); C]; R];
                for group in 0..groups {
                    for rows in rows.into_iter().flatten() {
                        rows.ask_while_multiplying(B::BYTES, groups);
                    }
                    let mut totals = [[_mm512_setzero_si512(); C]; R];
                    if B::ZERO != 0 {
                        for (c, column) in columns.iter().enumerate() {
                            let below = below_zero::<B>(column, first + block, group);
                            for totals in &mut totals {
                                totals[c] = below;
                            }
                        }
                    }
                    for four in 0..B::GROUP / 4 {
                        let at = group * (B::GROUP / 4) + four;
                        let mut weights = [_mm512_setzero_si512(); R];
                        for (r, weights) in weights.iter_mut().enumerate() {
                            *weights = (*tiles.add(r)).weights[block * 64 + at];
                        }
                        for (c, column) in columns.iter().enumerate() {
                            let values = spread(column.values.add((first + block) * 256 + at * 4));
                            for r in 0..R {
                                totals[r][c] =
                                    _mm512_dpbusd_epi32(totals[r][c], weights[r], values);
                            }
                        }
                    }
                    add_group(tiles, block * groups + group, &totals, &mut scaled);
                }
                add_block::<B, R, C>(tiles, block, columns, first + block, &scaled, sums);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply_lone(
        rows: &Rows,
        blocks: usize,
        tile: *mut Tile,
        column: &Column,
        first: usize,
        sums: &mut [[__m512; 1]; 1],
    ) {
        for block in 0..blocks {
            let at = block * B::BYTES;
            // SAFETY: the rows and the column have this block; the tile has room for one.
            unsafe {
                B::unpack_scales(rows, at, tile, 0);
                let totals = B::totals(rows, at, column.values.add((first + block) * 256));
                let mut scaled = [[_mm512_setzero_ps()]];
                for (group, mut total) in totals.into_iter().take(256 / B::GROUP).enumerate() {
                    if B::ZERO != 0 {
                        let below = below_zero::<B>(column, first + block, group);
                        total = _mm512_add_epi32(total, below);
                    }
                    add_group(tile, group, &[[total]], &mut scaled);
                }
                add_block::<B, 1, 1>(tile, 0, &[*column], first + block, &scaled, sums);
            }
        }
    }
}

/// What the total of a group of the columns' block `at` is too large by, as weights stand above zero; negative.
///
/// # Safety
/// The CPU is available; the column has the block.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
unsafe fn below_zero<B: SuperBlock>(column: &Column, at: usize, group: usize) -> __m512i {
    if B::GROUP == 16 {
        // SAFETY: by the caller's word.
        return unsafe { spread(column.sums.cast::<i32>().add(at * 16 + group)) };
    }
    // SAFETY: by the caller's word.
    let value_sums = unsafe { spread(column.sums.cast::<i16>().add(at * 16 + group * 2)) };
    let zero = _mm512_set1_epi16(-B::ZERO as i16);
    _mm512_dpwssd_epi32(_mm512_setzero_si512(), zero, value_sums)
}

/// Adds the totals of a group, the tiles' `index`th, to the sums of their super-block.
///
/// # Safety
/// The CPU is available; the tiles have the group.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn add_group<const R: usize, const C: usize>(
    tiles: *const Tile,
    index: usize,
    totals: &[[__m512i; C]; R],
    scaled: &mut [[__m512; C]; R],
) {
    for r in 0..R {
        // SAFETY: by the caller's word.
        let scale = unsafe { (*tiles.add(r)).scales[index] };
        for c in 0..C {
            let total = _mm512_cvtepi32_ps(totals[r][c]);
            scaled[r][c] = _mm512_fmadd_ps(total, scale, scaled[r][c]);
        }
    }
}

/// Adds the sums of a super-block, the tiles' `block`th, less its offsets, to `sums`. It meets the columns' block
/// `at`.
///
/// # Safety
/// The CPU is available; the tiles and the columns have the block.
#[target_feature(enable = "avx512f,avx512vnni,fma")]
#[inline]
unsafe fn add_block<B: SuperBlock, const R: usize, const C: usize>(
    tiles: *const Tile,
    block: usize,
    columns: &[Column; C],
    at: usize,
    scaled: &[[__m512; C]; R],
    sums: &mut [[__m512; C]; R],
) {
    // SAFETY: by the caller's word.
    unsafe {
        let mut offsets = [[_mm512_setzero_si512(); C]; R];
        let pairs = 128 / B::SUMS_OF;
        for pair in 0..if B::ZERO == 0 { pairs } else { 0 } {
            for (c, column) in columns.iter().enumerate() {
                let sums = column.sums.cast::<i16>();
                let value_sums = spread(sums.add((at * pairs + pair) * 2));
                for (r, offsets) in offsets.iter_mut().enumerate() {
                    let offset = (*tiles.add(r)).offsets[block * pairs + pair];
                    offsets[c] = _mm512_dpwssd_epi32(offsets[c], offset, value_sums);
                }
            }
        }
        for r in 0..R {
            for (c, column) in columns.iter().enumerate() {
                let mut total = scaled[r][c];
                if B::ZERO == 0 {
                    let below = _mm512_cvtepi32_ps(offsets[r][c]);
                    let offset_scale = (*tiles.add(r)).offset_scales[block];
                    total = _mm512_fnmadd_ps(below, offset_scale, total);
                }
                let scale = _mm512_castsi512_ps(spread(column.scales.add(at)));
                sums[r][c] = _mm512_fmadd_ps(total, scale, sums[r][c]);
            }
        }
    }
}

/// Byte `index` of each lane, as a number.
#[target_feature(enable = "avx512f")]
#[inline]
fn byte(lanes: __m512i, index: usize) -> __m512i {
    let shifted = _mm512_srl_epi32(lanes, _mm_cvtsi32_si128(index as i32 * 8));
    _mm512_and_si512(shifted, _mm512_set1_epi32(255))
}

/// Q4_K, and Q5_K if `FIVE`: f16 scale, f16 minimum, 12 bytes of scales and minimums of six bits, of Q5_K 32 bytes of
/// fifth bits, bit `g` for group `g`, then 128 bytes of two weights each.
pub(super) struct FourBit<const FIVE: bool>;

pub(super) type Q4K = Of<FourBit<false>>;
pub(super) type Q5K = Of<FourBit<true>>;

impl<const FIVE: bool> SuperBlock for FourBit<FIVE> {
    const BYTES: usize = if FIVE { 176 } else { 144 };
    const GROUP: usize = 32;
    const SUMS_OF: usize = 32;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let [d, a, b, c] = rows.load(at);
            let scale = low_floats(d);
            let min = low_floats(_mm512_srli_epi32::<16>(d));
            (*tile).offset_scales[index] = min;

            let six = _mm512_set1_epi32(0x3f3f_3f3f);
            let upper = |x| {
                let two =
                    _mm512_and_si512(_mm512_srli_epi32::<6>(x), _mm512_set1_epi32(0x0303_0303));
                _mm512_slli_epi32::<4>(two)
            };
            let four = |x| _mm512_and_si512(x, nibble);
            let scales = [_mm512_and_si512(a, six), _mm512_or_si512(four(c), upper(a))];
            let mins = [
                _mm512_and_si512(b, six),
                _mm512_or_si512(four(_mm512_srli_epi32::<4>(c)), upper(b)),
            ];
            for group in 0..8 {
                let small = _mm512_cvtepi32_ps(byte(scales[group / 4], group % 4));
                (*tile).scales[index * 8 + group] = _mm512_mul_ps(small, scale);
            }
            for pair in 0..4 {
                // Two bytes to 16 bits each.
                let two = _mm512_srl_epi32(mins[pair / 2], _mm_cvtsi32_si128(pair as i32 % 2 * 16));
                let first = _mm512_and_si512(two, _mm512_set1_epi32(0xff));
                let second =
                    _mm512_and_si512(_mm512_slli_epi32::<8>(two), _mm512_set1_epi32(0x00ff_0000));
                (*tile).offsets[index * 4 + pair] = _mm512_or_si512(first, second);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_weights(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let weights = (&raw mut (*tile).weights).cast::<__m512i>().add(index * 64);
            let low = at + if FIVE { 48 } else { 16 };
            for half in 0..2 {
                let fifth = if FIVE {
                    rows.load(at + 16 + half * 16)
                } else {
                    [nibble; 4]
                };
                for pair in 0..4 {
                    rows.ask_while_unpacking(Self::BYTES, 8);
                    let packed = rows.load(low + pair * 32 + half * 16);
                    for i in 0..4 {
                        let mut both = [
                            _mm512_and_si512(packed[i], nibble),
                            _mm512_and_si512(_mm512_srli_epi32::<4>(packed[i]), nibble),
                        ];
                        for (j, unpacked) in both.iter_mut().enumerate() {
                            let group = pair * 2 + j;
                            if FIVE {
                                let bit =
                                    _mm512_srl_epi32(fifth[i], _mm_cvtsi32_si128(group as i32));
                                let bit = _mm512_and_si512(bit, _mm512_set1_epi8(1));
                                *unpacked = _mm512_or_si512(*unpacked, _mm512_slli_epi32::<4>(bit));
                            }
                            weights.add(group * 8 + half * 4 + i).write(*unpacked);
                        }
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn totals(rows: &Rows, at: usize, values: *const i8) -> [__m512i; 16] {
        let nibble = _mm512_set1_epi8(15);
        let sixteen = _mm512_set1_epi8(16);
        // First halves, then second ones, of the even groups and of the odd ones each; and the fifth bits of these.
        let mut halves = [[_mm512_setzero_si512(); 2]; 2];
        let mut bits = [_mm512_setzero_si512(); 2];
        for odd in 0..2 {
            for (half, groups) in halves.iter_mut().enumerate() {
                let from = odd * 32 + half * 16;
                // SAFETY: it is within the 256 values.
                groups[odd] = unsafe { gather(values, [from, from + 64, from + 128, from + 192]) };
            }
            let bit = |pair: i32| _mm_set1_epi8((1u8 << (pair * 2 + odd as i32)) as i8);
            bits[odd] = _mm512_castsi128_si512(bit(0));
            bits[odd] = _mm512_inserti32x4::<1>(bits[odd], bit(1));
            bits[odd] = _mm512_inserti32x4::<2>(bits[odd], bit(2));
            bits[odd] = _mm512_inserti32x4::<3>(bits[odd], bit(3));
        }
        let [even, odd] = totals(rows, at, Self::BYTES, |block| {
            let mut sums = [_mm512_setzero_si512(); 2];
            for (half, values) in halves.iter().enumerate() {
                // SAFETY: the weights are within the block.
                unsafe {
                    let low = block.add(if FIVE { 48 } else { 16 } + half * 16);
                    let packed = gather(low, [0, 32, 64, 96]);
                    let high = _mm512_srli_epi32::<4>(packed);
                    for (odd, packed) in [packed, high].into_iter().enumerate() {
                        let mut weights = _mm512_and_si512(packed, nibble);
                        if FIVE {
                            let fifth = _mm_loadu_si128(block.add(16 + half * 16).cast());
                            let set =
                                _mm512_test_epi8_mask(_mm512_broadcast_i32x4(fifth), bits[odd]);
                            weights = _mm512_mask_add_epi8(weights, set, weights, sixteen);
                        }
                        sums[odd] = _mm512_dpbusd_epi32(sums[odd], weights, values[odd]);
                    }
                }
            }
            sums
        });
        let mut groups = [_mm512_setzero_si512(); 16];
        for i in 0..4 {
            groups[i * 2] = even[i];
            groups[i * 2 + 1] = odd[i];
        }
        groups
    }
}

/// Unpacks the `part`th four of the sixteen signed scales of the tile's super-block `index`: a byte each in `scales`, to
/// be multiplied with `scale`.
///
/// # Safety
/// The CPU is available; the tile has the super-block.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) unsafe fn unpack_signed_scales(
    scales: __m512i,
    scale: __m512,
    tile: *mut Tile,
    index: usize,
    part: usize,
) {
    for j in 0..4i32 {
        let up = _mm512_sll_epi32(scales, _mm_cvtsi32_si128(24 - 8 * j));
        let small = _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(up));
        // SAFETY: the tile has sixteen scales for each super-block.
        unsafe {
            (*tile).scales[index * 16 + part * 4 + j as usize] = _mm512_mul_ps(small, scale);
        }
    }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(super) struct SixBit;

pub(super) type Q6K = Of<SixBit>;

impl SuperBlock for SixBit {
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const ZERO: i32 = 32;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_weights(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        let two_bits = _mm512_set1_epi8(0x30);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let weights = (&raw mut (*tile).weights).cast::<__m512i>().add(index * 64);
            for half in 0..2 {
                for side in 0..2 {
                    let high = rows.load(at + 128 + half * 32 + side * 16);
                    for odd in 0..2 {
                        rows.ask_while_unpacking(Self::BYTES, 8);
                        let low = rows.load(at + half * 64 + odd * 32 + side * 16);
                        for i in 0..4 {
                            let high = [
                                [_mm512_slli_epi32::<4>(high[i]), high[i]],
                                [
                                    _mm512_slli_epi32::<2>(high[i]),
                                    _mm512_srli_epi32::<2>(high[i]),
                                ],
                            ][odd];
                            let low = [low[i], _mm512_srli_epi32::<4>(low[i])];
                            for (j, (low, high)) in low.into_iter().zip(high).enumerate() {
                                let quarter = odd + j * 2;
                                let unpacked = _mm512_or_si512(
                                    _mm512_and_si512(low, nibble),
                                    _mm512_and_si512(high, two_bits),
                                );
                                weights
                                    .add(half * 32 + quarter * 8 + side * 4 + i)
                                    .write(unpacked);
                            }
                        }
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack_scales(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let scale = floats(rows.halves(at + 208));
            for (i, scales) in rows.load(at + 192).into_iter().enumerate() {
                unpack_signed_scales(scales, scale, tile, index, i);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn totals(rows: &Rows, at: usize, values: *const i8) -> [__m512i; 16] {
        let nibble = _mm512_set1_epi8(15);
        let two_bits = _mm512_set1_epi8(0x30);
        // SAFETY: they are within the 256 values.
        let values = unsafe { values.cast::<[__m512i; 4]>().read_unaligned() };
        // Bits 0 and 1 belong to the first 32 weights, the next two to the next 32, and so on.
        let up = _mm512_inserti64x4::<1>(_mm512_set1_epi16(4), _mm256_set1_epi16(2));
        let down = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(2));
        let groups = totals(rows, at, Self::BYTES, |block| {
            let mut sums = [_mm512_setzero_si512(); 4];
            for half in 0..2 {
                // SAFETY: the weights are within the block.
                unsafe {
                    let low = _mm512_loadu_si512(block.add(half * 64).cast());
                    let high = _mm256_loadu_si256(block.add(128 + half * 32).cast());
                    let high = _mm512_broadcast_i64x4(high);
                    let pairs = [
                        (low, _mm512_sllv_epi16(high, up)),
                        (_mm512_srli_epi32::<4>(low), _mm512_srlv_epi16(high, down)),
                    ];
                    for (i, (low, high)) in pairs.into_iter().enumerate() {
                        let weights = _mm512_or_si512(
                            _mm512_and_si512(low, nibble),
                            _mm512_and_si512(high, two_bits),
                        );
                        let zero = _mm512_setzero_si512();
                        sums[half * 2 + i] =
                            _mm512_dpbusd_epi32(zero, weights, values[half * 2 + i]);
                    }
                }
            }
            sums
        });
        let mut all = [_mm512_setzero_si512(); 16];
        for (all, groups) in all.chunks_exact_mut(4).zip(&groups) {
            all.copy_from_slice(groups);
        }
        all
    }
}
