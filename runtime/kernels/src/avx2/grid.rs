//! Super-blocks of 256 weights that are points of a grid with signs of their own, in eight groups, each half of which has a
//! scale of five bits: IQ2 and IQ3. The signs go over to the values, so that the points are multiplied as they lie in the
//! grid.
//!
//! A super-block is added up in whole numbers, and super-blocks one behind the other, as ggml does it for many columns.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use super::isa::Isa;
use super::{Kernel, prefetch};
use crate::activation::Column;
use crate::types::grid::{Grid, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Packing, grid};

/// How AVX2 unpacks a type's super-blocks, which begin with an f16 scale.
///
/// Of all functions: the CPU has AVX2; `block` is valid for reading [`Packing::BYTES`].
pub(crate) trait Points: Packing {
    /// The magnitudes of the weights of group `group`.
    unsafe fn magnitudes(grid: &Grid, block: *const u8, group: usize) -> __m256i;

    /// Of each weight of the super-block a bit, in order: whether it is negative.
    unsafe fn all_signs(block: *const u8) -> __m256i;

    /// The scales, of 16 bits: those of each group's first half, then those of their second halves.
    unsafe fn all_scales(block: *const u8) -> __m256i;
}

/// The kernel of a type.
pub(crate) struct Of<P>(PhantomData<P>);

impl<P: Points> Kernel for Of<P> {
    // For eight and more, ggml unpacks tiles.
    const COLUMNS: RangeInclusive<usize> = 1..=7;
    // Nothing costs as much as looking up points.
    const AT_ONCE: usize = 7;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        let grid = grid::<P>();
        let mut sums = [_mm_setzero_ps(); N];
        for index in 0..blocks {
            // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
            unsafe {
                let block = row.add(index * P::BYTES);
                prefetch(block, P::BYTES);
                let signs = P::all_signs(block);
                // Each lane of 128 bits has those of four groups.
                let signs = [
                    _mm256_permute2x128_si256::<0x00>(signs, signs),
                    _mm256_permute2x128_si256::<0x11>(signs, signs),
                ];
                let scales = P::all_scales(block);
                let mut totals = [_mm256_setzero_si256(); N];
                for group in 0..8 {
                    let magnitudes = P::magnitudes(grid, block, group);
                    let signs = signs_of(signs[group / 4], group % 4);
                    let which = _mm256_set1_epi16(0x0100 + group as i16 * 0x0202);
                    let scale = _mm256_shuffle_epi8(scales, which);
                    let at = index * 256 + group * 32;
                    for (n, column) in columns.iter().enumerate() {
                        let values = _mm256_loadu_si256(column.values.add(at).cast());
                        let values = _mm256_sign_epi8(values, signs);
                        let pairs = _mm256_maddubs_epi16(magnitudes, values);
                        totals[n] = I::add_scaled(totals[n], pairs, scale);
                    }
                }
                let half = block.cast::<u16>().read_unaligned();
                let d = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half)));
                let d = _mm_mul_ss(d, _mm_set_ss(1.0 / f32::from(P::DIVISOR)));
                for (n, column) in columns.iter().enumerate() {
                    let total = _mm_mul_ss(d, _mm_cvtepi32_ps(sum(totals[n])));
                    let scale = _mm_set_ss(column.scales.add(index).read_unaligned());
                    sums[n] = _mm_fmadd_ss(total, scale, sums[n]);
                }
            }
        }
        let mut lanes = [_mm256_setzero_ps(); N];
        for (lanes, sum) in lanes.iter_mut().zip(sums) {
            *lanes = _mm256_zextps128_ps256(sum);
        }
        lanes
    }
}

/// The sum of eight lanes, in the first one.
#[target_feature(enable = "avx2")]
#[inline]
fn sum(lanes: __m256i) -> __m128i {
    let low = _mm256_castsi256_si128(lanes);
    let four = _mm_add_epi32(low, _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_add_epi32(two, _mm_shuffle_epi32::<1>(two))
}

/// Of 32 bits, number `group` of those in each lane of 128 bits, a byte each: -1, or 1 for zero.
#[target_feature(enable = "avx2")]
#[inline]
fn signs_of(bits: __m256i, group: usize) -> __m256i {
    let byte = |byte: i64| (group as i64 * 4 + byte) * 0x0101_0101_0101_0101;
    let bytes = _mm256_setr_epi64x(byte(0), byte(1), byte(2), byte(3));
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, bytes), bit);
    _mm256_or_si256(_mm256_cmpeq_epi8(bits, bit), _mm256_set1_epi8(1))
}

/// Bytes of seven bits, or of those in words of 16 bits the lower ones: an eighth makes the number of ones even.
#[target_feature(enable = "avx2")]
#[inline]
fn even(bytes: __m256i) -> __m256i {
    let both = _mm256_xor_si256(bytes, _mm256_srli_epi16::<4>(bytes));
    let four = _mm256_and_si256(both, _mm256_set1_epi8(15));
    // Of each number of four bits, whether that of its ones is odd.
    let odd = _mm256_setr_epi64x(
        0x8000_0080_0080_8000_u64 as i64,
        0x0080_8000_8000_0080,
        0x8000_0080_0080_8000_u64 as i64,
        0x0080_8000_8000_0080,
    );
    _mm256_or_si256(bytes, _mm256_shuffle_epi8(odd, four))
}

/// The signs from the lower 28 bits of each word.
#[target_feature(enable = "avx2")]
#[inline]
fn signs_of_28(words: __m256i) -> __m256i {
    let and = |x, mask| _mm256_and_si256(x, _mm256_set1_epi32(mask));
    let fourteen = _mm256_or_si256(
        and(words, 0x0000_3fff),
        and(_mm256_slli_epi32::<2>(words), 0x3fff_0000),
    );
    even(_mm256_or_si256(
        and(fourteen, 0x007f_007f),
        and(_mm256_slli_epi32::<1>(fourteen), 0x7f00_7f00),
    ))
}

/// A scale for both halves of each group, from the upper four bits of each word.
#[target_feature(enable = "avx2")]
#[inline]
fn scales_of_28(words: __m256i) -> __m256i {
    let four = _mm256_srli_epi32::<28>(words);
    let odd = _mm256_add_epi32(_mm256_add_epi32(four, four), _mm256_set1_epi32(1));
    _mm256_permute4x64_epi64::<0x88>(_mm256_packus_epi32(odd, odd))
}

/// The scales, from four bits each.
#[target_feature(enable = "avx2")]
#[inline]
fn odd(fours: __m128i) -> __m256i {
    let fours = _mm_and_si128(fours, _mm_set1_epi8(15));
    let odd = _mm_add_epi8(_mm_add_epi8(fours, fours), _mm_set1_epi8(1));
    _mm256_cvtepu8_epi16(odd)
}

/// The scales from eight bytes, the lower half of each for the first half of a group.
///
/// # Safety
/// The CPU has AVX2; they are valid for reading.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn scales_of_halves(bytes: *const u8) -> __m256i {
    // SAFETY: by the caller's word.
    let both = unsafe { _mm_loadl_epi64(bytes.cast()) };
    odd(_mm_unpacklo_epi64(both, _mm_srli_epi16::<4>(both)))
}

/// The byte at `at`.
///
/// # Safety
/// It is valid for reading.
#[inline(always)]
unsafe fn byte(block: *const u8, at: usize) -> usize {
    // SAFETY: by the caller's word.
    usize::from(unsafe { *block.add(at) })
}

/// The points of eight weights each, of these numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn four(grid: &Grid, a: usize, b: usize, c: usize, d: usize) -> __m256i {
    let [a, b, c, d] = [
        grid[a] as i64,
        grid[b] as i64,
        grid[c] as i64,
        grid[d] as i64,
    ];
    _mm256_setr_epi64x(a, b, c, d)
}

/// The points of four weights each.
macro_rules! eight {
    ($grid:ident, $number:expr) => {{
        let number = $number;
        let [a, b, c, d] = [number(0), number(1), number(2), number(3)];
        let [e, f, g, h] = [number(4), number(5), number(6), number(7)];
        let two = |a: usize, b: usize| ($grid[a] | $grid[b] << 32) as i64;
        _mm256_setr_epi64x(two(a, b), two(c, d), two(e, f), two(g, h))
    }};
}

impl Points for Iq2Xxs {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn magnitudes(grid: &Grid, block: *const u8, group: usize) -> __m256i {
        // SAFETY: they are within the super-block.
        let number = |i| unsafe { byte(block, 2 + group * 8 + i) };
        four(grid, number(0), number(1), number(2), number(3))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_signs(block: *const u8) -> __m256i {
        // SAFETY: by the caller's word.
        signs_of_28(unsafe { every_second(block) })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_scales(block: *const u8) -> __m256i {
        // SAFETY: by the caller's word.
        scales_of_28(unsafe { every_second(block) })
    }
}

/// The second, the fourth word, and so on, of 64 bytes after the f16 scale.
///
/// # Safety
/// The CPU has AVX2; they are valid for reading.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn every_second(block: *const u8) -> __m256i {
    // SAFETY: by the caller's word.
    let [a, b] = unsafe {
        [
            _mm256_loadu_ps(block.add(2).cast()),
            _mm256_loadu_ps(block.add(34).cast()),
        ]
    };
    let words = _mm256_castps_si256(_mm256_shuffle_ps::<0xdd>(a, b));
    _mm256_permute4x64_epi64::<0xd8>(words)
}

impl Points for Iq2Xs {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn magnitudes(grid: &Grid, block: *const u8, group: usize) -> __m256i {
        // SAFETY: they are within the super-block.
        let numbers = unsafe { block.add(2 + group * 8).cast::<u64>().read_unaligned() };
        let number = |i: usize| (numbers >> (16 * i) & 511) as usize;
        four(grid, number(0), number(1), number(2), number(3))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_signs(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        let [a, b] = unsafe {
            [
                _mm256_loadu_si256(block.add(2).cast()),
                _mm256_loadu_si256(block.add(34).cast()),
            ]
        };
        let (a, b) = (_mm256_srli_epi16::<9>(a), _mm256_srli_epi16::<9>(b));
        even(_mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi16(a, b)))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_scales(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        unsafe { scales_of_halves(block.add(66)) }
    }
}

impl Points for Iq2S {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn magnitudes(grid: &Grid, block: *const u8, group: usize) -> __m256i {
        // SAFETY: they are within the super-block.
        let high = unsafe { byte(block, 66 + group) };
        // SAFETY: so are these.
        let low = |i| unsafe { byte(block, 2 + group * 4 + i) };
        four(
            grid,
            low(0) | high << 8 & 0x300,
            low(1) | high << 6 & 0x300,
            low(2) | high << 4 & 0x300,
            low(3) | high << 2 & 0x300,
        )
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_signs(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        unsafe { _mm256_loadu_si256(block.add(34).cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_scales(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        unsafe { scales_of_halves(block.add(74)) }
    }
}

impl Points for Iq3Xxs {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn magnitudes(grid: &Grid, block: *const u8, group: usize) -> __m256i {
        // SAFETY: they are within the super-block.
        eight!(grid, |i| unsafe { byte(block, 2 + group * 8 + i) })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_signs(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        signs_of_28(unsafe { _mm256_loadu_si256(block.add(66).cast()) })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_scales(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        scales_of_28(unsafe { _mm256_loadu_si256(block.add(66).cast()) })
    }
}

impl Points for Iq3S {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn magnitudes(grid: &Grid, block: *const u8, group: usize) -> __m256i {
        // SAFETY: they are within the super-block.
        let (low, high) = unsafe {
            let low = _mm_loadl_epi64(block.add(2 + group * 8).cast());
            (low, *block.add(66 + group))
        };
        // Bit `i` of the upper ones goes to bit 8 of number `i`.
        let shifts = _mm256_setr_epi32(8, 7, 6, 5, 4, 3, 2, 1);
        let high = _mm256_sllv_epi32(_mm256_set1_epi32(i32::from(high)), shifts);
        let high = _mm256_and_si256(high, _mm256_set1_epi32(0x100));
        let mut numbers = [0u32; 8];
        // SAFETY: as many numbers.
        unsafe {
            let all = _mm256_or_si256(_mm256_cvtepu8_epi32(low), high);
            _mm256_storeu_si256(numbers.as_mut_ptr().cast(), all);
        }
        eight!(grid, |i: usize| numbers[i] as usize & 511)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_signs(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        unsafe { _mm256_loadu_si256(block.add(74).cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn all_scales(block: *const u8) -> __m256i {
        // SAFETY: they are within the super-block.
        let both = unsafe { block.add(106).cast::<i32>().read_unaligned() };
        let both = _mm_cvtsi32_si128(both);
        let groups = _mm_unpacklo_epi8(
            _mm_and_si128(both, _mm_set1_epi8(15)),
            _mm_srli_epi16::<4>(both),
        );
        odd(_mm_unpacklo_epi64(groups, groups))
    }
}
