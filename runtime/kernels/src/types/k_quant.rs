//! Q2_K to Q6_K: super-blocks of 256 weights in groups with small scales.

use super::{Format, kernels};
#[cfg(test)]
use crate::scalar::{f16, weights};

/// f16 scale, f16 minimum, 12 bytes of scales and minimums of six bits, 128 bytes of two weights each.
pub(super) const Q4K: Format = Format {
    number: 12,
    block_len: 256,
    block_bytes: 144,
    minimum: None,
    #[cfg(test)]
    halves: &[0, 2],
    #[cfg(test)]
    dequantize: |block| four_bit(block, |i| low_of_pair(&block[16..], i)),
    kernel: kernels! {
        avx512 four_bit::Q4K,
        avx2 groups_of_32::Q4K,
        neon super_blocks::Q4K
    },
};

/// As [`Q4K`], with 32 bytes of fifth bits, bit `g` for group `g`, before the weights.
pub(super) const Q5K: Format = Format {
    number: 13,
    block_len: 256,
    block_bytes: 176,
    minimum: None,
    #[cfg(test)]
    halves: &[0, 2],
    #[cfg(test)]
    dequantize: |block| {
        four_bit(block, |i| {
            low_of_pair(&block[48..], i) | (block[16 + i % 32] >> (i / 32) & 1) << 4
        })
    },
    kernel: kernels! {
        avx512 four_bit::Q5K,
        avx2 groups_of_32::Q5K,
        neon super_blocks::Q5K
    },
};

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 scales, f16 scale; 32 is zero.
pub(super) const Q6K: Format = Format {
    number: 14,
    block_len: 256,
    block_bytes: 210,
    minimum: None,
    #[cfg(test)]
    halves: &[208],
    #[cfg(test)]
    dequantize: |block| {
        weights(256, |i| {
            let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
            let low = block[half * 64 + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
            let value = low | two_bits(&block[128..], i) << 4;
            let scale = f64::from(block[192 + i / 16] as i8);
            f16(block, 208) * scale * (f64::from(value) - 32.0)
        })
    },
    kernel: kernels! {
        avx512 six_bit::Q6K,
        avx2 groups_of_16::Q6K,
        neon super_blocks::Q6K
    },
};

/// 16 scales and minimums of four bits each, 64 bytes of four weights each, f16 scale, f16 minimum.
pub(super) const Q2K: Format = Format {
    number: 10,
    block_len: 256,
    block_bytes: 84,
    minimum: None,
    #[cfg(test)]
    halves: &[80, 82],
    #[cfg(test)]
    dequantize: |block| {
        weights(256, |i| {
            let value = f64::from(two_bits(&block[16..], i));
            let (scale, min) = (block[i / 16] & 15, block[i / 16] >> 4);
            f16(block, 80) * f64::from(scale) * value - f16(block, 82) * f64::from(min)
        })
    },
    kernel: kernels! {
        avx512 two_bit::Q2K,
        avx2 groups_of_16::Q2K,
        neon two_bit::Q2K
    },
};

/// 32 bytes of third bits, 64 bytes of four weights each, 12 bytes of six-bit scales, of which 32 is zero, f16 scale; 4 is
/// zero.
pub(super) const Q3K: Format = Format {
    number: 11,
    block_len: 256,
    block_bytes: 110,
    minimum: None,
    #[cfg(test)]
    halves: &[108],
    #[cfg(test)]
    dequantize: |block| {
        weights(256, |i| {
            let third = block[i % 32] >> (i / 32) & 1;
            let value = two_bits(&block[32..], i) | third << 2;
            let (group, scales) = (i / 16, &block[96..108]);
            let scale = scales[group % 8] >> (group / 8 * 4) & 15
                | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
            f16(block, 108) * (f64::from(scale) - 32.0) * (f64::from(value) - 4.0)
        })
    },
    kernel: kernels! {
        avx512 two_bit::Q3K,
        avx2 groups_of_16::Q3K,
        neon two_bit::Q3K
    },
};

/// The weights of Q4_K or Q5_K, of which `value` gives the bits.
#[cfg(test)]
fn four_bit(block: &[u8], value: impl Fn(usize) -> u8) -> Vec<f64> {
    weights(256, |i| {
        let (scale, min) = scale_and_min(&block[4..], i / 32);
        f16(block, 0) * f64::from(scale) * f64::from(value(i)) - f16(block, 2) * f64::from(min)
    })
}

/// The six-bit scale and minimum of `group`, 0 to 7, from the twelve bytes of Q4_K and Q5_K.
#[cfg(test)]
fn scale_and_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (
            low & 15 | packed[group - 4] >> 6 << 4,
            low >> 4 | packed[group] >> 6 << 4,
        )
    }
}

/// Four bits of weight `i`: 32 bytes hold those of two groups.
#[cfg(test)]
fn low_of_pair(packed: &[u8], i: usize) -> u8 {
    packed[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15
}

/// Two bits of weight `i`: 32 bytes hold those of four groups.
#[cfg(test)]
fn two_bits(packed: &[u8], i: usize) -> u8 {
    packed[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3
}
