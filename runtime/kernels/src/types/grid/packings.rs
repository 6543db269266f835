//! How each type packs its points, spelled out: the reference, and what the grids are asked for with.

use std::sync::OnceLock;

use super::{Grid, Packing};
use crate::WeightType;

/// The word of 32 bits at byte `at`.
#[cfg(test)]
fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The word of 16 bits at byte `at`.
fn half_word(block: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Eight bits from seven: the last one makes the number of ones even.
#[cfg(test)]
fn even(seven: u32) -> u32 {
    let seven = seven & 127;
    seven | (seven.count_ones() & 1) << 7
}

/// The signs of 32 weights, from the lower 28 bits.
#[cfg(test)]
fn signs_of_28(bits: u32) -> u32 {
    (0..4).fold(0, |signs, i| signs | even(bits >> (7 * i)) << (8 * i))
}

/// An odd scale of four bits.
fn odd(four: u8) -> u8 {
    (four & 15) * 2 + 1
}

macro_rules! kept {
    () => {
        #[inline(always)]
        fn kept() -> &'static OnceLock<Grid> {
            static GRID: OnceLock<Grid> = OnceLock::new();
            &GRID
        }
    };
}

/// f16 scale; of each group, four numbers of a byte, then 28 bits of signs and four of the scale.
pub(crate) struct Iq2Xxs;

impl Packing for Iq2Xxs {
    const POINT: usize = 8;
    const POINTS: usize = 256;
    const BYTES: usize = 66;
    const DIVISOR: u16 = 8;
    const TYPE: WeightType = WeightType::Iq2Xxs;
    kept!();

    fn number(block: &[u8], group: usize, point: usize) -> usize {
        usize::from(block[2 + group * 8 + point])
    }

    #[cfg(test)]
    fn signs(block: &[u8], group: usize) -> u32 {
        signs_of_28(word(block, 6 + group * 8))
    }

    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        [odd(block[9 + group * 8] >> 4); 2]
    }
}

/// f16 scale; of each eight weights nine bits of the number and seven of signs; scales of four bits.
pub(crate) struct Iq2Xs;

impl Packing for Iq2Xs {
    const POINT: usize = 8;
    const POINTS: usize = 512;
    const BYTES: usize = 74;
    const DIVISOR: u16 = 8;
    const TYPE: WeightType = WeightType::Iq2Xs;
    kept!();

    fn number(block: &[u8], group: usize, point: usize) -> usize {
        half_word(block, 2 + group * 8 + point * 2) & 511
    }

    #[cfg(test)]
    fn signs(block: &[u8], group: usize) -> u32 {
        (0..4).fold(0, |signs, i| {
            let seven = half_word(block, 2 + group * 8 + i * 2) >> 9;
            signs | even(seven as u32) << (8 * i)
        })
    }

    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        let both = block[66 + group];
        [odd(both), odd(both >> 4)]
    }
}

/// f16 scale, the lower byte of the numbers, signs, the numbers' upper two bits, scales of four bits.
pub(crate) struct Iq2S;

impl Packing for Iq2S {
    const POINT: usize = 8;
    const POINTS: usize = 1024;
    const BYTES: usize = 82;
    const DIVISOR: u16 = 8;
    const TYPE: WeightType = WeightType::Iq2S;
    kept!();

    fn number(block: &[u8], group: usize, point: usize) -> usize {
        let (low, high) = (block[2 + group * 4 + point], block[66 + group]);
        usize::from(low) | usize::from(high >> (2 * point) & 3) << 8
    }

    #[cfg(test)]
    fn signs(block: &[u8], group: usize) -> u32 {
        word(block, 34 + group * 4)
    }

    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        let both = block[74 + group];
        [odd(both), odd(both >> 4)]
    }
}

/// f16 scale, numbers of a byte; of each group 28 bits of signs and four of the scale.
pub(crate) struct Iq3Xxs;

impl Packing for Iq3Xxs {
    const POINT: usize = 4;
    const POINTS: usize = 256;
    const BYTES: usize = 98;
    const DIVISOR: u16 = 4;
    const TYPE: WeightType = WeightType::Iq3Xxs;
    kept!();

    fn number(block: &[u8], group: usize, point: usize) -> usize {
        usize::from(block[2 + group * 8 + point])
    }

    #[cfg(test)]
    fn signs(block: &[u8], group: usize) -> u32 {
        signs_of_28(word(block, 66 + group * 4))
    }

    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        [odd(block[69 + group * 4] >> 4); 2]
    }
}

/// f16 scale, the lower byte of the numbers, their upper bit, signs, scales of four bits.
pub(crate) struct Iq3S;

impl Packing for Iq3S {
    const POINT: usize = 4;
    const POINTS: usize = 512;
    const BYTES: usize = 110;
    const DIVISOR: u16 = 1;
    const TYPE: WeightType = WeightType::Iq3S;
    kept!();

    fn number(block: &[u8], group: usize, point: usize) -> usize {
        let (low, high) = (block[2 + group * 8 + point], block[66 + group]);
        usize::from(low) | usize::from(high >> point & 1) << 8
    }

    #[cfg(test)]
    fn signs(block: &[u8], group: usize) -> u32 {
        word(block, 74 + group * 4)
    }

    fn scales(block: &[u8], group: usize) -> [u8; 2] {
        [odd(block[106 + group / 2] >> (group % 2 * 4)); 2]
    }
}
