//! IQ2 and IQ3: eight weights together, or four, are one of a grid's points, with signs of their own. 256 weights are a
//! super-block.
//!
//! They pay for a few columns only. IQ3_S is not here, as ggml was as fast with four columns and faster with one or two.
//!
//! The grids are ggml's own: it is asked for them once, by having it unpack blocks of all points. Without ggml there are no
//! such types.

// Other CPUs go ggml's way.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use super::{Format, WeightType, kernels};
#[cfg(test)]
use crate::scalar::{f16, weights};

/// Of each point, the magnitudes of its weights, a byte each, from the lowest on.
type Grid = [u64; 1024];

/// How a type packs its super-blocks, which begin with an f16 scale.
pub(crate) trait Packing {
    /// Weights of a point: 8 or 4.
    const POINT: usize;
    /// Points of the grid.
    const POINTS: usize;
    /// Bytes of a super-block.
    const BYTES: usize;
    /// What the f16 scale is divided by: the groups' scales are then whole numbers.
    const DIVISOR: u16;
    /// The type.
    const TYPE: WeightType;
    /// For which numbers of columns AVX2 is faster here than in ggml.
    const COLUMNS: RangeInclusive<usize>;

    /// Where the grid is kept.
    fn kept() -> &'static OnceLock<Grid>;

    /// Which points the 32 weights of group `group`, 0 to 7, are: the first four or all, below [`Packing::POINTS`].
    fn numbers(block: &[u8], group: usize) -> [usize; 8];

    /// Of each of the group's weights a byte: all ones if it is negative, or zero. Eight weights in each number, from the
    /// lowest byte on.
    fn signs(block: &[u8], group: usize) -> [u64; 4];

    /// The scales of the group's two halves.
    fn scales(block: &[u8], group: usize) -> [u8; 2];
}

/// The grid of a type.
fn grid<P: Packing>() -> &'static Grid {
    P::kept().get_or_init(|| {
        let mut grid = [0; 1024];
        let mut missing = P::POINTS;
        let mut state = 1u32;
        let mut block = [0; 256];
        let block = &mut block[..P::BYTES];
        while missing > 0 {
            for byte in &mut *block {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            // A scale of 1 after the division: a half's exponent begins at bit 10, of 1 it is 15.
            let exponent = 15 + P::DIVISOR.ilog2() as u16;
            block[..2].copy_from_slice(&(exponent << 10).to_le_bytes());
            let unpacked = unpacked_by_ggml(P::TYPE, block);
            for (at, point) in unpacked.chunks_exact(P::POINT).enumerate() {
                let (group, i) = (at * P::POINT / 32, at % (32 / P::POINT));
                let number = P::numbers(block, group)[i];
                let scale = P::scales(block, group)[i * P::POINT / 16];
                let bytes = point.iter().rev().fold(0, |bytes, weight| {
                    bytes << 8 | (weight.abs() / f32::from(scale)) as u64
                });
                missing -= usize::from(grid[number] == 0);
                grid[number] = bytes;
            }
        }
        grid
    })
}

/// The weights of a super-block, as ggml unpacks them.
fn unpacked_by_ggml(weight_type: WeightType, block: &[u8]) -> [f32; 256] {
    use llama_cpp_sys_2 as sys;
    assert_eq!(
        (block.len(), 256),
        (weight_type.block_bytes(), weight_type.block_len())
    );
    let mut weights = [0f32; 256];
    // SAFETY: one block in, as many floats out as it has weights.
    unsafe {
        let traits = *sys::ggml_get_type_traits(weight_type.ggml_type());
        let to_float = traits.to_float.expect("ggml reads this type");
        to_float(block.as_ptr().cast(), weights.as_mut_ptr(), 256);
    }
    weights
}

#[cfg(test)]
fn dequantize<P: Packing>(block: &[u8]) -> Vec<f64> {
    weights(256, |i| {
        let (group, at) = (i / 32, i % 32);
        let point = grid::<P>()[P::numbers(block, group)[at / P::POINT]];
        let magnitude = f64::from((point >> (at % P::POINT * 8)) as u8);
        let scale = f64::from(P::scales(block, group)[at / 16]) / f64::from(P::DIVISOR);
        let negative = (P::signs(block, group)[at / 8] >> (at % 8 * 8)) as u8 == 0xff;
        let sign = if negative { -1.0 } else { 1.0 };
        f16(block, 0) * scale * sign * magnitude
    })
}

/// How AVX2 unpacks a super-block.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::marker::PhantomData;
    use std::ops::RangeInclusive;

    use super::{Packing, grid};
    use crate::avx2::groups_of_16::SuperBlock;

    pub struct Points<P>(PhantomData<P>);

    impl<P: Packing> SuperBlock for Points<P> {
        const BYTES: usize = P::BYTES;
        const SCALE: usize = 0;
        const COLUMNS: RangeInclusive<usize> = P::COLUMNS;
        const DIVISOR: f32 = P::DIVISOR as f32;
        // No grid has a larger magnitude.
        const ZERO: i16 = 64;

        #[target_feature(enable = "avx2")]
        #[inline]
        unsafe fn unpack(block: *const u8, half: usize) -> [__m256i; 4] {
            // SAFETY: by the caller's word.
            let block = unsafe { std::slice::from_raw_parts(block, P::BYTES) };
            let grid = grid::<P>();
            let mut weights = [_mm256_setzero_si256(); 4];
            for (i, weights) in weights.iter_mut().enumerate() {
                let group = half * 4 + i;
                let numbers = P::numbers(block, group);
                let eight = |i: usize| {
                    let point = |i: usize| grid[numbers[i] % 1024];
                    let eight = if P::POINT == 8 {
                        point(i)
                    } else {
                        point(i * 2) | point(i * 2 + 1) << 32
                    };
                    eight as i64
                };
                let magnitudes = _mm256_setr_epi64x(eight(0), eight(1), eight(2), eight(3));
                let [a, b, c, d] = P::signs(block, group).map(|eight| eight as i64);
                let negative = _mm256_setr_epi64x(a, b, c, d);
                let signed = _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative);
                *weights = _mm256_add_epi8(signed, _mm256_set1_epi8(Self::ZERO as i8));
            }
            weights
        }

        #[target_feature(enable = "avx2")]
        #[inline]
        unsafe fn scales(block: *const u8) -> __m128i {
            // SAFETY: by the caller's word.
            let block = unsafe { std::slice::from_raw_parts(block, P::BYTES) };
            let four = |first: usize| {
                (first..first + 4).rev().fold(0, |scales, group| {
                    let [low, high] = P::scales(block, group);
                    scales << 16 | i64::from(high) << 8 | i64::from(low)
                })
            };
            _mm_set_epi64x(four(4), four(0))
        }
    }
}

/// The word of 32 bits at byte `at`.
fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// What [`Packing::signs`] has of eight weights, from a bit each.
static SIGNS: [u64; 256] = {
    let mut signs = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut weight = 0;
        while weight < 8 {
            signs[i] |= ((i as u64 >> weight & 1) * 0xff) << (weight * 8);
            weight += 1;
        }
        i += 1;
    }
    signs
};

/// The same from seven bits: the eighth makes the number of negative weights even.
static EVEN_SIGNS: [u64; 128] = {
    let mut signs = [0; 128];
    let mut i = 0;
    while i < 128 {
        signs[i] = SIGNS[i | (i.count_ones() as usize % 2) << 7];
        i += 1;
    }
    signs
};

/// The signs of 32 weights, from the lower 28 bits.
#[inline(always)]
fn signs_of_28(bits: u32) -> [u64; 4] {
    [0, 7, 14, 21].map(|at| EVEN_SIGNS[(bits >> at & 127) as usize])
}

/// The signs of 32 weights, from a bit each.
#[inline(always)]
fn signs_of_32(bits: u32) -> [u64; 4] {
    bits.to_le_bytes().map(|byte| SIGNS[usize::from(byte)])
}

/// An odd scale of four bits.
fn odd(four: u8) -> u8 {
    (four & 15) * 2 + 1
}

macro_rules! format {
    ($packing:ident, $number:literal) => {
        Format {
            number: $number,
            block_len: 256,
            block_bytes: $packing::BYTES,
            minimum: None,
            #[cfg(test)]
            halves: &[0],
            #[cfg(test)]
            dequantize: dequantize::<$packing>,
            kernel: kernels! { avx2 groups_of_16::Of<avx2::Points<$packing>> },
        }
    };
}

pub(super) const IQ2_XXS: Format = format!(Iq2Xxs, 16);
pub(super) const IQ2_XS: Format = format!(Iq2Xs, 17);
pub(super) const IQ2_S: Format = format!(Iq2S, 22);
pub(super) const IQ3_XXS: Format = format!(Iq3Xxs, 18);

macro_rules! kept {
    () => {
        #[inline(always)]
        fn kept() -> &'static OnceLock<Grid> {
            static GRID: OnceLock<Grid> = OnceLock::new();
            &GRID
        }
    };
}

/// f16 scale; of each group, four numbers of a byte, then 28 bits of signs and four of the scale.
pub(crate) struct Iq2Xxs;

impl Packing for Iq2Xxs {
    const POINT: usize = 8;
    const POINTS: usize = 256;
    const BYTES: usize = 66;
    const DIVISOR: u16 = 8;
    const TYPE: WeightType = WeightType::Iq2Xxs;
    const COLUMNS: RangeInclusive<usize> = 2..=7;
    kept!();

    #[inline(always)]
    fn numbers(block: &[u8], group: usize) -> [usize; 8] {
        let [a, b, c, d] = word(block, 2 + group * 8).to_le_bytes().map(usize::from);
        [a, b, c, d, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn signs(block: &[u8], group: usize) -> [u64; 4] {
        signs_of_28(word(block, 6 + group * 8))
    }

    #[inline(always)]
    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        [odd(block[9 + group * 8] >> 4); 2]
    }
}

/// f16 scale; of each eight weights nine bits of the number and seven of signs; scales of four bits.
pub(crate) struct Iq2Xs;

impl Packing for Iq2Xs {
    const POINT: usize = 8;
    const POINTS: usize = 512;
    const BYTES: usize = 74;
    const DIVISOR: u16 = 8;
    const TYPE: WeightType = WeightType::Iq2Xs;
    const COLUMNS: RangeInclusive<usize> = 4..=7;
    kept!();

    #[inline(always)]
    fn numbers(block: &[u8], group: usize) -> [usize; 8] {
        let (low, high) = (word(block, 2 + group * 8), word(block, 6 + group * 8));
        let [a, b, c, d] = [low, low >> 16, high, high >> 16].map(|x| (x & 511) as usize);
        [a, b, c, d, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn signs(block: &[u8], group: usize) -> [u64; 4] {
        let (low, high) = (word(block, 2 + group * 8), word(block, 6 + group * 8));
        [low, low >> 16, high, high >> 16].map(|x| EVEN_SIGNS[(x >> 9 & 127) as usize])
    }

    #[inline(always)]
    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        let both = block[66 + group];
        [odd(both), odd(both >> 4)]
    }
}

/// f16 scale, the lower byte of the numbers, signs, the numbers' upper two bits, scales of four bits.
pub(crate) struct Iq2S;

impl Packing for Iq2S {
    const POINT: usize = 8;
    const POINTS: usize = 1024;
    const BYTES: usize = 82;
    const DIVISOR: u16 = 8;
    const TYPE: WeightType = WeightType::Iq2S;
    const COLUMNS: RangeInclusive<usize> = 2..=7;
    kept!();

    #[inline(always)]
    fn numbers(block: &[u8], group: usize) -> [usize; 8] {
        let (low, high) = (word(block, 2 + group * 4), u32::from(block[66 + group]));
        let number = |i: u32| (low >> (8 * i) & 255 | (high >> (2 * i) & 3) << 8) as usize;
        [number(0), number(1), number(2), number(3), 0, 0, 0, 0]
    }

    #[inline(always)]
    fn signs(block: &[u8], group: usize) -> [u64; 4] {
        signs_of_32(word(block, 34 + group * 4))
    }

    #[inline(always)]
    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        let both = block[74 + group];
        [odd(both), odd(both >> 4)]
    }
}

/// f16 scale, numbers of a byte; of each group 28 bits of signs and four of the scale.
pub(crate) struct Iq3Xxs;

impl Packing for Iq3Xxs {
    const POINT: usize = 4;
    const POINTS: usize = 256;
    const BYTES: usize = 98;
    const DIVISOR: u16 = 4;
    const TYPE: WeightType = WeightType::Iq3Xxs;
    const COLUMNS: RangeInclusive<usize> = 3..=7;
    kept!();

    #[inline(always)]
    fn numbers(block: &[u8], group: usize) -> [usize; 8] {
        std::array::from_fn(|i| usize::from(block[2 + group * 8 + i]))
    }

    #[inline(always)]
    fn signs(block: &[u8], group: usize) -> [u64; 4] {
        signs_of_28(word(block, 66 + group * 4))
    }

    #[inline(always)]
    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        [odd(block[69 + group * 4] >> 4); 2]
    }
}
