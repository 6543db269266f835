//! How products of 8-bit numbers are added: by AVX2's own instructions, or by those of VNNI, to the same whole numbers.

use std::arch::asm;
use std::arch::x86_64::*;

/// Which instructions add products. All functions ask of the CPU that it is [available](super::available), and has what
/// their implementation is for.
pub(crate) trait Isa {
    /// `total` and the products of neighbours, four in each lane, of unsigned `weights` and signed `values`. No two
    /// neighbours' products may together be beyond 16 bits.
    unsafe fn add_fours(total: __m256i, weights: __m256i, values: __m256i) -> __m256i;

    /// `total` and `pairs` times `scales`, two in each lane: 16-bit numbers.
    unsafe fn add_scaled(total: __m256i, pairs: __m256i, scales: __m256i) -> __m256i;
}

/// AVX2 alone.
pub(super) struct Plain;

impl Isa for Plain {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn add_fours(total: __m256i, weights: __m256i, values: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(weights, values);
        _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn add_scaled(total: __m256i, pairs: __m256i, scales: __m256i) -> __m256i {
        _mm256_add_epi32(total, _mm256_madd_epi16(pairs, scales))
    }
}

/// Instructions of VNNI in the encoding `prefix` asks for. Assembly, as the library's functions for them could not be
/// inlined into kernels that are compiled for AVX2, and would be called.
macro_rules! vnni {
    ($isa:ident, $prefix:literal) => {
        impl Isa for $isa {
            #[target_feature(enable = "avx2")]
            #[inline]
            unsafe fn add_fours(total: __m256i, weights: __m256i, values: __m256i) -> __m256i {
                let mut total = total;
                // SAFETY: the CPU has the instruction, by the caller's word; it reads and writes registers only.
                unsafe {
                    asm!(
                        concat!("{{", $prefix, "}} vpdpbusd {total}, {weights}, {values}"),
                        total = inout(ymm_reg) total,
                        weights = in(ymm_reg) weights,
                        values = in(ymm_reg) values,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                total
            }

            #[target_feature(enable = "avx2")]
            #[inline]
            unsafe fn add_scaled(total: __m256i, pairs: __m256i, scales: __m256i) -> __m256i {
                let mut total = total;
                // SAFETY: as above.
                unsafe {
                    asm!(
                        concat!("{{", $prefix, "}} vpdpwssd {total}, {pairs}, {scales}"),
                        total = inout(ymm_reg) total,
                        pairs = in(ymm_reg) pairs,
                        scales = in(ymm_reg) scales,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                total
            }
        }
    };
}

/// AVX-VNNI: CPUs without AVX-512, from Alder Lake and its small cores (N100) on.
pub(super) struct Vnni;

vnni!(Vnni, "vex");

/// The same instructions as AVX-512 encodes them, so that a CPU that has only these can test what uses them.
#[cfg(test)]
pub(super) struct VnniOfAvx512;

#[cfg(test)]
vnni!(VnniOfAvx512, "evex");
