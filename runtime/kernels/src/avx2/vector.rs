//! Registers of eight floats, for attention.

use std::arch::x86_64::*;

use crate::attention::range::{self, Range};
use crate::attention::vector::{Vector, instructions};

impl Vector for __m256 {
    const LANES: usize = 8;
    const QUERIES: usize = 2;

    #[inline(always)]
    fn ask(at: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    instructions! {
        fn splat(x: f32) -> Self { _mm256_set1_ps(x) }
        fn load(at: *const f32) -> Self { _mm256_loadu_ps(at) }
        fn load_halves(at: *const u16) -> Self { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
        fn load_bytes(at: *const i8) -> Self {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())))
        }
        fn splat_half(at: *const u16) -> Self { super::broadcast_half(at.cast()) }
        fn store(self: Self, at: *mut f32) { _mm256_storeu_ps(at, self) }
        fn add(self: Self, other: Self) -> Self { _mm256_add_ps(self, other) }
        fn masked(self: Self, mask: Self) -> Self {
            let unseen = _mm256_cmp_ps::<_CMP_EQ_OQ>(mask, _mm256_set1_ps(f32::NEG_INFINITY));
            _mm256_blendv_ps(_mm256_add_ps(self, mask), mask, unseen)
        }
        fn multiply(self: Self, other: Self) -> Self { _mm256_mul_ps(self, other) }
        fn add_product(self: Self, a: Self, b: Self) -> Self { _mm256_fmadd_ps(a, b, self) }
        fn max(self: Self, other: Self) -> Self { _mm256_max_ps(self, other) }
        fn round(self: Self) -> Self { _mm256_round_ps::<8>(self) }
        fn times_power(self: Self, exponent: Self) -> Self {
            let bits = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
            _mm256_mul_ps(self, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits)))
        }
        fn sum(self: Self) -> f32 { super::sum(self) }
        fn greatest(self: Self) -> f32 {
            let four = _mm_max_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
        fn store_sums(of: [Self; 4], at: *mut f32) {
            let [a, b, c, d] = of;
            let all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let all = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            _mm_storeu_ps(at, all)
        }
    }
}

/// As [`Range::attend`].
///
/// # Safety
/// As there; the CPU is [available](super::available).
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn attend(range: &Range) {
    // SAFETY: by the caller's word.
    unsafe { range.attend::<__m256>() }
}

/// As [`merge`](crate::attention::range::merge).
///
/// # Safety
/// As there; the CPU is [available](super::available).
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn merge(total: *mut f32, part: *const f32, width: usize) {
    // SAFETY: by the caller's word.
    unsafe { range::merge::<__m256>(total, part, width) }
}
