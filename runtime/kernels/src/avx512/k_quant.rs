//! K-quants: super-blocks of 256 weights whose groups have small scales of their own, multiplied with one f16
//! of the super-block. A type says how its super-blocks are unpacked; the rest is the same for all.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::Kernel;
use super::tile::{Rows, Tile, floats, spread};
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(super) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Weights that share a scale: 16 or 32.
    const GROUP: usize;

    /// Unpacks each row's super-block that begins at byte `at` to the tile's super-block `index`.
    ///
    /// # Safety
    /// As [`Kernel::unpack`], for one block; the tile has room for it.
    unsafe fn unpack(rows: &Rows, at: usize, tile: *mut Tile, index: usize);
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
            rows.prefetch(at, B::BYTES);
            // SAFETY: the rows have this block, and the tile has room for as many.
            unsafe { B::unpack(rows, at, tile, block) };
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn multiply<const R: usize, const C: usize>(
        tiles: *const Tile,
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
                    let mut totals = [[_mm512_setzero_si512(); C]; R];
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
                    for r in 0..R {
                        let scale = (*tiles.add(r)).scales[block * groups + group];
                        for c in 0..C {
                            let total = _mm512_cvtepi32_ps(totals[r][c]);
                            scaled[r][c] = _mm512_fmadd_ps(total, scale, scaled[r][c]);
                        }
                    }
                }
                let mut offsets = [[_mm512_setzero_si512(); C]; R];
                for pair in 0..8 {
                    for (c, column) in columns.iter().enumerate() {
                        let at = (first + block) * 16 + pair * 2;
                        let value_sums = spread(column.sums.cast::<i16>().add(at));
                        for (r, offsets) in offsets.iter_mut().enumerate() {
                            let offset = (*tiles.add(r)).offsets[block * 8 + pair];
                            offsets[c] = _mm512_dpwssd_epi32(offsets[c], offset, value_sums);
                        }
                    }
                }
                for r in 0..R {
                    let offset_scale = (*tiles.add(r)).offset_scales[block];
                    for (c, column) in columns.iter().enumerate() {
                        let below = _mm512_cvtepi32_ps(offsets[r][c]);
                        let total = _mm512_fnmadd_ps(below, offset_scale, scaled[r][c]);
                        let scale = _mm512_castsi512_ps(spread(column.scales.add(first + block)));
                        sums[r][c] = _mm512_fmadd_ps(total, scale, sums[r][c]);
                    }
                }
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

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let [d, a, b, c] = rows.load(at);
            let scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(d));
            let min = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(d)));
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
                let small = byte(mins[group / 4], group % 4);
                (*tile).offsets[index * 8 + group] =
                    _mm512_or_si512(small, _mm512_slli_epi32::<16>(small));
            }

            let weights = (&raw mut (*tile).weights).cast::<__m512i>().add(index * 64);
            let low = at + if FIVE { 48 } else { 16 };
            for half in 0..2 {
                let fifth = if FIVE {
                    rows.load(at + 16 + half * 16)
                } else {
                    [nibble; 4]
                };
                for pair in 0..4 {
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
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(super) struct SixBit;

pub(super) type Q6K = Of<SixBit>;

impl SuperBlock for SixBit {
    const BYTES: usize = 210;
    const GROUP: usize = 16;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
    #[inline]
    unsafe fn unpack(rows: &Rows, at: usize, tile: *mut Tile, index: usize) {
        let nibble = _mm512_set1_epi8(15);
        let two_bits = _mm512_set1_epi8(0x30);
        // SAFETY: each read is within the block, each write within what belongs to this block of the tile.
        unsafe {
            let halves = rows.halves(at + 208);
            let weights = (&raw mut (*tile).weights).cast::<__m512i>().add(index * 64);
            for half in 0..2 {
                for side in 0..2 {
                    let high = rows.load(at + 128 + half * 32 + side * 16);
                    for odd in 0..2 {
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

            let scale = floats(halves);
            // An offset is 32 times the scale.
            (*tile).offset_scales[index] = _mm512_mul_ps(scale, _mm512_set1_ps(32.0));
            for (i, scales) in rows.load(at + 192).into_iter().enumerate() {
                for j in 0..4i32 {
                    let up = _mm512_sll_epi32(scales, _mm_cvtsi32_si128(24 - 8 * j));
                    let small = _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(up));
                    (*tile).scales[index * 16 + i * 4 + j as usize] = _mm512_mul_ps(small, scale);
                }
                // Each of two bytes to the upper half of 16 bits, and down from there with its sign.
                for pair in 0..2 {
                    let two = if pair == 0 {
                        scales
                    } else {
                        _mm512_srli_epi32::<16>(scales)
                    };
                    let first =
                        _mm512_and_si512(_mm512_slli_epi32::<8>(two), _mm512_set1_epi32(0xff00));
                    let second = _mm512_and_si512(
                        _mm512_slli_epi32::<16>(two),
                        _mm512_set1_epi32(0xff00_0000_u32 as i32),
                    );
                    (*tile).offsets[index * 8 + i * 2 + pair] =
                        _mm512_srai_epi16::<8>(_mm512_or_si512(first, second));
                }
            }
        }
    }
}
