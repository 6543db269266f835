//! Registers of sixteen floats, for attention.

use std::arch::x86_64::*;

use crate::attention::range::{self, Range};
use crate::attention::vector::{Vector, instructions};

impl Vector for __m512 {
    const LANES: usize = 16;
    const QUERIES: usize = 4;

    #[inline(always)]
    fn ask(at: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    instructions! {
        fn splat(x: f32) -> Self { _mm512_set1_ps(x) }
        fn load(at: *const f32) -> Self { _mm512_loadu_ps(at) }
        fn load_halves(at: *const u16) -> Self { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
        fn load_bytes(at: *const i8) -> Self {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())))
        }
        fn splat_half(at: *const u16) -> Self {
            let half = _mm_cvtsi32_si128(i32::from(at.read_unaligned()));
            _mm512_broadcastss_ps(_mm_cvtph_ps(half))
        }
        fn store(self: Self, at: *mut f32) { _mm512_storeu_ps(at, self) }
        fn add(self: Self, other: Self) -> Self { _mm512_add_ps(self, other) }
        fn masked(self: Self, mask: Self) -> Self {
            let seen = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(mask, _mm512_set1_ps(f32::NEG_INFINITY));
            _mm512_mask_add_ps(mask, seen, self, mask)
        }
        fn multiply(self: Self, other: Self) -> Self { _mm512_mul_ps(self, other) }
        fn add_product(self: Self, a: Self, b: Self) -> Self { _mm512_fmadd_ps(a, b, self) }
        fn max(self: Self, other: Self) -> Self { _mm512_max_ps(self, other) }
        fn round(self: Self) -> Self { _mm512_roundscale_ps::<0>(self) }
        fn times_power(self: Self, exponent: Self) -> Self {
            let bits = _mm512_add_epi32(_mm512_cvtps_epi32(exponent), _mm512_set1_epi32(127));
            _mm512_mul_ps(self, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits)))
        }
        fn sum(self: Self) -> f32 { _mm512_reduce_add_ps(self) }
        fn greatest(self: Self) -> f32 { _mm512_reduce_max_ps(self) }
        fn store_sums(of: [Self; 4], at: *mut f32) {
            let [a, b, c, d] = of;
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let all = _mm512_add_ps(
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd))
            );
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(all)));
            let all = _mm256_add_ps(_mm512_castps512_ps256(all), upper);
            let all = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            _mm_storeu_ps(at, all)
        }
    }
}

/// As [`Range::attend`].
///
/// # Safety
/// As there; the CPU is [available](super::available).
#[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
pub(crate) unsafe fn attend(range: &Range) {
    // SAFETY: by the caller's word.
    unsafe { range.attend::<__m512>() }
}

/// As [`merge`](crate::attention::range::merge).
///
/// # Safety
/// As there; the CPU is [available](super::available).
#[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
pub(crate) unsafe fn merge(total: *mut f32, part: *const f32, width: usize) {
    // SAFETY: by the caller's word.
    unsafe { range::merge::<__m512>(total, part, width) }
}
