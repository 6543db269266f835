//! IQ4_NL and IQ4_XS: four bits are the number of a weight in a table.

#[cfg(test)]
use super::IQ4;
use super::{Format, kernels};
#[cfg(test)]
use crate::scalar::{f16, nibble, weights};

/// f16 scale, 16 bytes of two numbers each.
pub(super) const IQ4_NL: Format = Format {
    number: 20,
    block_len: 32,
    block_bytes: 18,
    minimum: None,
    #[cfg(test)]
    halves: &[0],
    #[cfg(test)]
    dequantize: |block| weights(32, |i| f16(block, 0) * looked_up(&block[2..], i)),
    kernel: kernels! {
        avx512 block_32::Of<iq4::Iq4Nl>,
        avx2 block_32::Of<iq4::Iq4Nl>,
        neon iq4::Iq4Nl
    },
};

/// f16 scale, upper two bits of eight scales, their lower four, 128 bytes of two numbers each; a scale of 32 is zero.
pub(super) const IQ4_XS: Format = Format {
    number: 23,
    block_len: 256,
    block_bytes: 136,
    minimum: None,
    #[cfg(test)]
    halves: &[0],
    #[cfg(test)]
    dequantize: |block| {
        weights(256, |i| {
            let group = i / 32;
            let upper = u16::from_le_bytes([block[2], block[3]]) >> (group * 2) & 3;
            let scale = block[4 + group / 2] >> (group % 2 * 4) & 15 | (upper as u8) << 4;
            let weight = looked_up(&block[8 + group * 16..], i % 32);
            f16(block, 0) * (f64::from(scale) - 32.0) * weight
        })
    },
    kernel: kernels! {
        avx512 iq4::Iq4Xs,
        avx2 iq4::Iq4Xs,
        neon iq4::Iq4Xs
    },
};

#[cfg(test)]
fn looked_up(packed: &[u8], i: usize) -> f64 {
    f64::from(IQ4[nibble(packed, i) as usize])
}
