//! Super-blocks of 256 weights in sixteen groups, each with a scale of at most 8 bits: Q2_K, Q3_K, Q6_K. A type says how a
//! super-block is unpacked; the rest is the same for all.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::isa::Isa;
use super::{Kernel, broadcast_half, prefetch};
use crate::activation::Column;

/// How a type packs its super-blocks.
pub(crate) trait SuperBlock {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Where the f16 scale is.
    const SCALE: usize;
    /// Where the f16 scale of the groups' minimums is, if they have these.
    const MIN: Option<usize> = None;
    /// What an unpacked weight of zero stands at.
    const ZERO: i16 = 0;

    /// The 128 weights of a half, below 128, two groups in each register.
    ///
    /// # Safety
    /// The CPU has AVX2; `block` is valid for reading `BYTES`.
    unsafe fn unpack(block: *const u8, half: usize) -> [__m256i; 4];

    /// The groups' scales, signed.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack`].
    unsafe fn scales(block: *const u8) -> __m128i;

    /// The groups' minimums, if they have these.
    ///
    /// # Safety
    /// As [`SuperBlock::unpack`].
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn mins(_: *const u8) -> __m128i {
        _mm_setzero_si128()
    }
}

/// The kernel of a [`SuperBlock`].
pub(crate) struct Of<B>(PhantomData<B>);

impl<B: SuperBlock> Kernel for Of<B> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N] {
        let mut sums = [_mm256_setzero_ps(); N];
        for index in 0..blocks {
            // SAFETY: each read is within this block or, of a column, within the part that belongs to it.
            unsafe {
                let block = row.add(index * B::BYTES);
                prefetch(block, B::BYTES);
                let scales = B::scales(block);
                let mut totals = [_mm256_setzero_si256(); N];
                // Not a loop: which groups these are has to be known when this is compiled.
                macro_rules! half {
                    ($half:literal) => {
                        for (quarter, weights) in B::unpack(block, $half).into_iter().enumerate() {
                            let group = ($half * 8 + quarter * 2) as i64;
                            let repeat = 0x0101_0101_0101_0101;
                            let which = _mm_set_epi64x((group + 1) * repeat, group * repeat);
                            let scale = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, which));
                            let at = index * 256 + $half * 128 + quarter * 32;
                            for (n, column) in columns.iter().enumerate() {
                                let values = _mm256_loadu_si256(column.values.add(at).cast());
                                let pairs = _mm256_maddubs_epi16(weights, values);
                                totals[n] = I::add_scaled(totals[n], pairs, scale);
                            }
                        }
                    };
                }
                half!(0);
                half!(1);
                let d = broadcast_half(block.add(B::SCALE));
                let scales = _mm256_cvtepi8_epi16(scales);
                let zeros = _mm256_mullo_epi16(scales, _mm256_set1_epi16(B::ZERO));
                let mins = _mm256_cvtepi8_epi16(B::mins(block));
                for (n, column) in columns.iter().enumerate() {
                    let value_sums = column.sums.cast::<i16>().add(index * 16);
                    let value_sums = _mm256_loadu_si256(value_sums.cast());
                    let scale = _mm256_set1_ps(column.scales.add(index).read_unaligned());
                    let mut total = totals[n];
                    if B::ZERO != 0 {
                        total = _mm256_sub_epi32(total, _mm256_madd_epi16(value_sums, zeros));
                    }
                    let total = _mm256_cvtepi32_ps(total);
                    sums[n] = _mm256_fmadd_ps(total, _mm256_mul_ps(d, scale), sums[n]);
                    if let Some(at) = B::MIN {
                        let min = _mm256_mul_ps(broadcast_half(block.add(at)), scale);
                        let below = _mm256_cvtepi32_ps(_mm256_madd_epi16(value_sums, mins));
                        sums[n] = _mm256_fnmadd_ps(below, min, sums[n]);
                    }
                }
            }
        }
        sums
    }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(crate) struct SixBit;

pub(crate) type Q6K = Of<SixBit>;

impl SuperBlock for SixBit {
    const BYTES: usize = 210;
    const SCALE: usize = 208;
    const ZERO: i16 = 32;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: the reads are within the super-block.
        let (low, high) = unsafe {
            let low = block.add(half * 64);
            (
                [
                    _mm256_loadu_si256(low.cast()),
                    _mm256_loadu_si256(low.add(32).cast()),
                ],
                _mm256_loadu_si256(block.add(128 + half * 32).cast()),
            )
        };
        let join = |low, high| {
            _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi8(15)),
                _mm256_and_si256(high, _mm256_set1_epi8(0x30)),
            )
        };
        [
            join(low[0], _mm256_slli_epi16::<4>(high)),
            join(low[1], _mm256_slli_epi16::<2>(high)),
            join(_mm256_srli_epi16::<4>(low[0]), high),
            join(_mm256_srli_epi16::<4>(low[1]), _mm256_srli_epi16::<2>(high)),
        ]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn scales(block: *const u8) -> __m128i {
        // SAFETY: they are within the super-block.
        unsafe { _mm_loadu_si128(block.add(192).cast()) }
    }
}

/// 32 bytes, each of two bits of a weight from each quarter of a half.
///
/// # Safety
/// They are valid for reading; the CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn two_bits(packed: *const u8) -> [__m256i; 4] {
    // SAFETY: by the caller's word.
    let packed = unsafe { _mm256_loadu_si256(packed.cast()) };
    let low = |x| _mm256_and_si256(x, _mm256_set1_epi8(3));
    [
        low(packed),
        low(_mm256_srli_epi16::<2>(packed)),
        low(_mm256_srli_epi16::<4>(packed)),
        low(_mm256_srli_epi16::<6>(packed)),
    ]
}

/// 16 scales and minimums of four bits each, 64 bytes of four weights each, f16 scale, f16 minimum.
pub(crate) struct TwoBit;

pub(crate) type Q2K = Of<TwoBit>;

impl SuperBlock for TwoBit {
    const BYTES: usize = 84;
    const SCALE: usize = 80;
    const MIN: Option<usize> = Some(82);

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: they are within the super-block.
        unsafe { two_bits(block.add(16 + half * 32)) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn scales(block: *const u8) -> __m128i {
        // SAFETY: they begin the super-block.
        let both = unsafe { _mm_loadu_si128(block.cast()) };
        _mm_and_si128(both, _mm_set1_epi8(15))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn mins(block: *const u8) -> __m128i {
        // SAFETY: as above.
        let both = unsafe { _mm_loadu_si128(block.cast()) };
        _mm_and_si128(_mm_srli_epi16::<4>(both), _mm_set1_epi8(15))
    }
}

/// 32 bytes of third bits, 64 bytes of four weights each, 12 bytes of six-bit scales, of which 32 is zero, f16 scale; 4 is
/// zero.
pub(crate) struct ThreeBit;

pub(crate) type Q3K = Of<ThreeBit>;

impl SuperBlock for ThreeBit {
    const BYTES: usize = 110;
    const SCALE: usize = 108;
    const ZERO: i16 = 4;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn unpack(block: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: the reads are within the super-block.
        let (third, mut weights) = unsafe {
            (
                _mm256_loadu_si256(block.cast()),
                two_bits(block.add(32 + half * 32)),
            )
        };
        // Those of this half in the lower four bits of each byte.
        let third = _mm256_srl_epi16(third, _mm_cvtsi32_si128(half as i32 * 4));
        let third = [
            _mm256_slli_epi16::<2>(third),
            _mm256_slli_epi16::<1>(third),
            third,
            _mm256_srli_epi16::<1>(third),
        ];
        for (weights, third) in weights.iter_mut().zip(third) {
            let third = _mm256_and_si256(third, _mm256_set1_epi8(4));
            *weights = _mm256_or_si256(*weights, third);
        }
        weights
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn scales(block: *const u8) -> __m128i {
        // SAFETY: they are within the super-block.
        let word = |i: usize| unsafe { block.add(96).cast::<u32>().add(i).read_unaligned() };
        let (a, b, upper) = (word(0), word(1), word(2));
        let (four, two) = (0x0f0f_0f0f, 0x0303_0303);
        let six = |low: u32, shift: i32| (low & four | (upper >> shift & two) << 4) as i32;
        let scales = _mm_setr_epi32(six(a, 0), six(b, 2), six(a >> 4, 4), six(b >> 4, 6));
        _mm_sub_epi8(scales, _mm_set1_epi8(32))
    }
}
