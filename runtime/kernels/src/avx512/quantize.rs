//! Activations to 8 bits, sixteen at a time, with the same bits as [`Layout::quantize`](crate::activation::Layout).

use std::arch::x86_64::*;

use super::lone::add_up;
use crate::rounding::inverse;

/// Quantizes a block of 32 or 256 values; gives the largest magnitude, and of each 16 values, the sum.
///
/// # Safety
/// The CPU is [available](super::available); `values` is valid for writing as many bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn quantize(input: &[f32], values: *mut i8) -> (f32, [i32; 16]) {
    // As bits, what is no number is larger than all numbers.
    let mut largest = _mm512_setzero_si512();
    for part in input.chunks_exact(16) {
        // SAFETY: sixteen floats.
        let x = unsafe { _mm512_loadu_ps(part.as_ptr()) };
        largest = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(x)), largest);
    }
    let largest = f32::from_bits(_mm512_reduce_max_epu32(largest));
    let inverse = _mm512_set1_ps(inverse(largest));
    for (i, part) in input.chunks_exact(16).enumerate() {
        // SAFETY: sixteen floats in, sixteen bytes out. What is no number, or beyond all, has a lowest byte of 0.
        unsafe {
            let x = _mm512_mul_ps(_mm512_loadu_ps(part.as_ptr()), inverse);
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
            _mm_storeu_si128(values.add(i * 16).cast(), bytes);
        }
    }
    let mut fours = [_mm512_setzero_si512(); 4];
    for (i, fours) in fours.iter_mut().take(input.len().div_ceil(64)).enumerate() {
        let mask = if input.len() < 64 {
            0xffff_ffff
        } else {
            u64::MAX
        };
        // SAFETY: the mask lets through the values that were written.
        let values = unsafe { _mm512_maskz_loadu_epi8(mask, values.add(i * 64)) };
        *fours = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), values);
    }
    let [a, b, c, d] = fours;
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut sums = [0; 16];
    let in_order = _mm512_permutexvar_epi32(order, add_up(a, b, c, d));
    // SAFETY: sixteen numbers.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), in_order) };
    (largest, sums)
}
