//! Q4_0 to Q8_0: blocks of 32 weights with a scale.

use super::{Format, kernels};
#[cfg(test)]
use crate::scalar::{f16, fifth_bit, nibble, weights};

/// f16 scale, 16 bytes of two weights each; 8 is zero.
pub(super) const Q4_0: Format = Format {
    number: 2,
    block_len: 32,
    block_bytes: 18,
    minimum: None,
    #[cfg(test)]
    halves: &[0],
    #[cfg(test)]
    dequantize: |block| weights(32, |i| f16(block, 0) * (nibble(&block[2..], i) - 8.0)),
    kernel: kernels! {
        avx512 block_32::Of<legacy::Q4_0>,
        avx2 block_32::Of<block_32::Q4_0>,
        neon block_32::Of<block_32::Q4_0>
    },
};

/// f16 scale, f16 minimum, 16 bytes of two weights each.
pub(super) const Q4_1: Format = Format {
    number: 3,
    block_len: 32,
    block_bytes: 20,
    minimum: Some(2),
    #[cfg(test)]
    halves: &[0, 2],
    #[cfg(test)]
    dequantize: |block| {
        weights(32, |i| {
            f16(block, 0) * nibble(&block[4..], i) + f16(block, 2)
        })
    },
    kernel: kernels! {
        avx512 block_32::Of<legacy::Q4_1>,
        avx2 block_32::Of<block_32::Q4_1>,
        neon block_32::Of<block_32::Q4_1>
    },
};

/// f16 scale, 32 fifth bits, 16 bytes of two weights each; 16 is zero.
pub(super) const Q5_0: Format = Format {
    number: 6,
    block_len: 32,
    block_bytes: 22,
    minimum: None,
    #[cfg(test)]
    halves: &[0],
    #[cfg(test)]
    dequantize: |block| {
        weights(32, |i| {
            let value = nibble(&block[6..], i) + fifth_bit(&block[2..], i);
            f16(block, 0) * (value - 16.0)
        })
    },
    kernel: kernels! {
        avx512 block_32::Of<legacy::Q5_0>,
        avx2 block_32::Of<block_32::Q5_0>,
        neon block_32::Of<block_32::Q5_0>
    },
};

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of two weights each.
pub(super) const Q5_1: Format = Format {
    number: 7,
    block_len: 32,
    block_bytes: 24,
    minimum: Some(2),
    #[cfg(test)]
    halves: &[0, 2],
    #[cfg(test)]
    dequantize: |block| {
        weights(32, |i| {
            let value = nibble(&block[8..], i) + fifth_bit(&block[4..], i);
            f16(block, 0) * value + f16(block, 2)
        })
    },
    kernel: kernels! {
        avx512 block_32::Of<legacy::Q5_1>,
        avx2 block_32::Of<block_32::Q5_1>,
        neon block_32::Of<block_32::Q5_1>
    },
};

/// f16 scale, 32 signed bytes.
pub(super) const Q8_0: Format = Format {
    number: 8,
    block_len: 32,
    block_bytes: 34,
    minimum: None,
    #[cfg(test)]
    halves: &[0],
    #[cfg(test)]
    dequantize: |block| weights(32, |i| f16(block, 0) * f64::from(block[2 + i] as i8)),
    kernel: kernels! {
        avx512 block_32::Of<legacy::Q8_0>,
        avx2 block_32::Of<block_32::Q8_0>,
        neon block_32::Of<block_32::Q8_0>
    },
};
