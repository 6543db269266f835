//! AVX2 with FMA and F16C: every x86 since 2013.
//!
//! A row is unpacked once for up to four columns. Products of 8-bit values are added in pairs to 16 bits,
//! in fours to 32; no sum can overflow there, whatever the bytes of a file say.

mod block_32;
mod q4_k;
mod q6_k;

use std::arch::x86_64::*;

use crate::WeightType;
use crate::activation::Column;
use crate::panel::Panel;

/// Whether this CPU has what the kernels here need.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// A type's kernel.
pub(super) trait Kernel {
    /// The dot products of one row of `blocks` blocks with `N` columns, before the eight lanes of each
    /// are added up.
    ///
    /// # Safety
    /// The CPU is [`available`]; `row` holds `blocks` blocks; each column is of as many weights.
    unsafe fn dot<const N: usize>(
        row: *const u8,
        blocks: usize,
        columns: &[Column; N],
    ) -> [__m256; N];
}

/// Computes `panel`.
///
/// # Safety
/// The CPU is [`available`], and `panel` keeps its promises.
pub(crate) unsafe fn multiply(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe {
        match weight_type {
            WeightType::Q4_0 => multiply_with::<block_32::Of<block_32::Q4_0>>(panel),
            WeightType::Q4_1 => multiply_with::<block_32::Of<block_32::Q4_1>>(panel),
            WeightType::Q5_0 => multiply_with::<block_32::Of<block_32::Q5_0>>(panel),
            WeightType::Q5_1 => multiply_with::<block_32::Of<block_32::Q5_1>>(panel),
            WeightType::Q8_0 => multiply_with::<block_32::Of<block_32::Q8_0>>(panel),
            WeightType::Q4K => multiply_with::<q4_k::Q4K>(panel),
            WeightType::Q5K => multiply_with::<q4_k::Q5K>(panel),
            WeightType::Q6K => multiply_with::<q6_k::Q6K>(panel),
            other => unreachable!("no kernel takes {other:?}"),
        }
    }
}

/// # Safety
/// As [`multiply`], for a panel of `K`'s type.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply_with<K: Kernel>(panel: &Panel) {
    let mut first = 0;
    while first < panel.n_columns {
        let n = (panel.n_columns - first).min(4);
        // SAFETY: as the caller says; there are `n` columns from `first` on.
        unsafe {
            match n {
                1 => multiply_columns::<K, 1>(panel, first),
                2 => multiply_columns::<K, 2>(panel, first),
                3 => multiply_columns::<K, 3>(panel, first),
                _ => multiply_columns::<K, 4>(panel, first),
            }
        }
        first += n;
    }
}

/// # Safety
/// As [`multiply_with`]; the panel has `N` columns from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn multiply_columns<K: Kernel, const N: usize>(panel: &Panel, first: usize) {
    let blocks = panel.layout.k / panel.layout.block_len;
    let columns = panel.columns::<N>(first);
    for row in 0..panel.rows {
        // SAFETY: the panel has this row, these columns, and their places in the output.
        unsafe {
            let lanes = K::dot(panel.row(row), blocks, &columns);
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

/// How far ahead of what is read: far enough for memory to answer, near enough to stay in the cache.
const AHEAD: usize = 1024;

/// Asks memory for what comes [`AHEAD`] of `bytes` bytes at `at`; it is a hint and reads nothing itself, so it may
/// lie beyond the weights. The CPU's own prefetching ends at each page, which shows where a row is multiplied so
/// few times that memory is what it waits for.
#[inline(always)]
fn prefetch<const N: usize>(at: *const u8, bytes: usize) {
    if N < 4 {
        for line in (0..bytes).step_by(64) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast()) };
        }
    }
}

/// Multiplies values in registers as the kernels do, and nothing else; gives the number of operations.
///
/// # Safety
/// The CPU is [`available`].
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn multiply_in_registers(rounds: usize) -> usize {
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
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, scale));
        }
    }
    std::hint::black_box(sums).len() * rounds * 32 * 2
}
