//! AVX2 with FMA and F16C: Intel's Core and Xeon since 2013, its Pentium, Celeron and Atom since about 2021, AMD's since
//! 2015; with AVX-VNNI where this is there.
//!
//! A row is unpacked once for up to four columns, of IQ2 and IQ3 seven. Products of 8-bit values are added in pairs to 16 bits,
//! in fours to 32; no sum can overflow there, whatever the bytes of a file say.

pub(crate) mod block_32;
#[cfg(feature = "ggml")]
pub(crate) mod grid;
pub(crate) mod groups_of_16;
pub(crate) mod groups_of_32;
pub(crate) mod iq4;
mod isa;
pub(crate) mod vector;

use std::arch::x86_64::*;
use std::ops::RangeInclusive;

use crate::activation::Column;
use crate::panel::Panel;
use crate::simd::{self, Simd};
use isa::{Isa, Plain, Vnni};

/// Whether this CPU has what the kernels here need.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// A type's kernel.
pub(crate) trait Kernel {
    /// For which numbers of columns it is faster than ggml, which unpacks tiles of rows for many.
    const COLUMNS: RangeInclusive<usize> = 1..=32;

    /// How many columns a row is unpacked once for: 4 or 7.
    const AT_ONCE: usize = 4;

    /// The dot products of one row of `blocks` blocks with `N` columns, before the eight lanes of each
    /// are added up.
    ///
    /// # Safety
    /// The CPU is [`available`] and has what `I` is for; `row` holds `blocks` blocks; each column is of as many weights.
    unsafe fn dot<I: Isa, const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N];
}

/// Whether it has AVX-VNNI as well.
pub(crate) fn has_vnni() -> bool {
    // Tests of the one encoding run the other where only that is.
    available() && (is_x86_feature_detected!("avxvnni") || cfg!(test) && has_vnni_of_avx512())
}

fn has_vnni_of_avx512() -> bool {
    is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl")
}

/// The kernel of the type that `K` is for, if it is asked for with AVX2 or AVX-VNNI.
pub(crate) fn kernel<K: Kernel>(simd: Simd) -> Option<simd::Kernel> {
    let multiply: unsafe fn(&Panel) = match simd {
        Simd::Avx2 => multiply::<Plain, K>,
        #[cfg(test)]
        Simd::AvxVnni if !is_x86_feature_detected!("avxvnni") => multiply::<isa::VnniOfAvx512, K>,
        Simd::AvxVnni => multiply::<Vnni, K>,
        Simd::Avx512 => return None,
    };
    Some(simd::Kernel {
        simd,
        multiply,
        zero: 0,
        sums_of: 16,
        together: 1,
        columns: K::COLUMNS,
    })
}

/// Computes `panel`.
///
/// # Safety
/// The CPU is [`available`] and has what `I` is for, and `panel`, of `K`'s type, keeps its promises.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<I: Isa, K: Kernel>(panel: &Panel) {
    let mut first = 0;
    while first < panel.n_columns {
        let n = (panel.n_columns - first).min(K::AT_ONCE);
        // SAFETY: as the caller says; there are `n` columns from `first` on.
        unsafe {
            match n {
                1 => multiply_columns::<I, K, 1>(panel, first),
                2 => multiply_columns::<I, K, 2>(panel, first),
                3 => multiply_columns::<I, K, 3>(panel, first),
                5 if K::AT_ONCE > 4 => multiply_columns::<I, K, 5>(panel, first),
                6 if K::AT_ONCE > 4 => multiply_columns::<I, K, 6>(panel, first),
                7 if K::AT_ONCE > 4 => multiply_columns::<I, K, 7>(panel, first),
                _ => multiply_columns::<I, K, 4>(panel, first),
            }
        }
        first += n;
    }
}

/// # Safety
/// As [`multiply`]; the panel has `N` columns from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn multiply_columns<I: Isa, K: Kernel, const N: usize>(panel: &Panel, first: usize) {
    let blocks = panel.layout.k / panel.layout.block_len;
    let columns = panel.columns::<N>(first);
    for row in 0..panel.rows {
        // SAFETY: the panel has this row, these columns, and their places in the output.
        unsafe {
            let lanes = K::dot::<I, N>(panel.row(row), blocks, &columns);
            for (i, lanes) in lanes.into_iter().enumerate() {
                panel.output(row, first + i).write(sum(lanes));
            }
        }
    }
}

/// The sum of eight lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn sum(lanes: __m256) -> f32 {
    let four = _mm_add_ps(
        _mm256_castps256_ps128(lanes),
        _mm256_extractf128_ps::<1>(lanes),
    );
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// An f16 as a float in each lane.
///
/// # Safety
/// The CPU is [`available`]; `half` is valid for reading two bytes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn broadcast_half(half: *const u8) -> __m256 {
    // SAFETY: by the caller's word.
    let half = unsafe { half.cast::<u16>().read_unaligned() };
    _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half))))
}

/// How far ahead of what is read: far enough for memory to answer, near enough to stay in the cache.
const AHEAD: usize = 2048;

/// Asks memory for what comes [`AHEAD`] of `bytes` bytes at `at`; it is a hint and reads nothing itself, so it may
/// lie beyond the weights. The CPU's own prefetching ends at each page, and begins late where there is much to compute
/// between two reads.
#[inline(always)]
fn prefetch(at: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast()) };
    }
}

/// Multiplies values in registers as the kernels do, and nothing else; gives the number of operations.
///
/// # Safety
/// The CPU is [`available`].
pub(crate) unsafe fn multiply_in_registers(rounds: usize) -> usize {
    // SAFETY: as the caller says.
    unsafe { repeat::<Plain>(rounds) }
}

/// As [`multiply_in_registers`], with AVX-VNNI.
///
/// # Safety
/// The CPU [has it](has_vnni).
pub(crate) unsafe fn multiply_in_registers_by_vnni(rounds: usize) -> usize {
    // SAFETY: as the caller says.
    unsafe { repeat::<Vnni>(rounds) }
}

/// # Safety
/// The CPU is [`available`], and has what `I` is for.
#[target_feature(enable = "avx2")]
unsafe fn repeat<I: Isa>(rounds: usize) -> usize {
    let mut sums = [_mm256_setzero_si256(); 8];
    let (weights, values, scale) = (
        std::hint::black_box(_mm256_set1_epi8(1)),
        std::hint::black_box(_mm256_set1_epi8(2)),
        std::hint::black_box(_mm256_set1_epi16(3)),
    );
    for _ in 0..rounds {
        for sum in &mut sums {
            // Weights that hang on the round: or they would be multiplied once and for all.
            let weights = _mm256_xor_si256(weights, *sum);
            let pairs = _mm256_maddubs_epi16(weights, values);
            // SAFETY: by the caller's word.
            *sum = unsafe { I::add_scaled(*sum, pairs, scale) };
        }
    }
    std::hint::black_box(sums).len() * rounds * 32 * 2
}
