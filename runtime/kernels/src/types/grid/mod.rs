//! IQ2 and IQ3: eight weights together, or four, are one of a grid's points, with signs of their own. 256 weights are a
//! super-block.
//!
//! Eight columns and more go ggml's way, which adds up each of these types' super-blocks in whole numbers, and then one
//! behind the other; for fewer it has another order. The kernels here have the former, so that a column's product has
//! the same bits whatever it is batched with.
//!
//! The grids are ggml's own: it is asked for them once, by having it unpack blocks of all points. Without ggml there are no
//! such types.

// Other CPUs go ggml's way.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod packings;

use std::sync::OnceLock;

use super::{Format, WeightType, kernels};
#[cfg(test)]
use crate::scalar::{f16, weights};
pub(crate) use packings::{Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs};

/// Of each point, the magnitudes of its weights, a byte each, from the lowest on.
pub(crate) type Grid = [u64; 1024];

/// How a type packs its super-blocks, which begin with an f16 scale: the reference.
pub(crate) trait Packing {
    /// Weights of a point: 8 or 4.
    const POINT: usize;
    /// Points of the grid.
    const POINTS: usize;
    /// Bytes of a super-block.
    const BYTES: usize;
    /// What the f16 scale is divided by: the groups' scales are then whole numbers.
    const DIVISOR: u16;
    /// The type.
    const TYPE: WeightType;

    /// Where the grid is kept.
    fn kept() -> &'static OnceLock<Grid>;

    /// Which point, below [`Packing::POINTS`], is number `point` of the 32 weights of group `group`, 0 to 7.
    fn number(block: &[u8], group: usize, point: usize) -> usize;

    /// Of each of the group's weights a bit: whether it is negative.
    #[cfg(test)]
    fn signs(block: &[u8], group: usize) -> u32;

    /// The scales of the group's two halves.
    fn scales(block: &[u8], group: usize) -> [u8; 2];
}

/// The grid of a type.
pub(crate) fn grid<P: Packing>() -> &'static Grid {
    P::kept().get_or_init(|| {
        let mut grid = [0; 1024];
        let mut missing = P::POINTS;
        let mut state = 1u32;
        let mut block = [0; 256];
        let block = &mut block[..P::BYTES];
        while missing > 0 {
            for byte in &mut *block {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            // A scale of 1 after the division: a half's exponent begins at bit 10, of 1 it is 15.
            let exponent = 15 + P::DIVISOR.ilog2() as u16;
            block[..2].copy_from_slice(&(exponent << 10).to_le_bytes());
            let unpacked = unpacked_by_ggml(P::TYPE, block);
            for (at, point) in unpacked.chunks_exact(P::POINT).enumerate() {
                let (group, i) = (at * P::POINT / 32, at % (32 / P::POINT));
                let number = P::number(block, group, i);
                let scale = P::scales(block, group)[i * P::POINT / 16];
                let bytes = point.iter().rev().fold(0, |bytes, weight| {
                    bytes << 8 | (weight.abs() / f32::from(scale)) as u64
                });
                missing -= usize::from(grid[number] == 0);
                grid[number] = bytes;
            }
        }
        grid
    })
}

/// The weights of a super-block, as ggml unpacks them.
fn unpacked_by_ggml(weight_type: WeightType, block: &[u8]) -> [f32; 256] {
    use llama_cpp_sys_2 as sys;
    assert_eq!(
        (block.len(), 256),
        (weight_type.block_bytes(), weight_type.block_len())
    );
    let mut weights = [0f32; 256];
    // SAFETY: one block in, as many floats out as it has weights.
    unsafe {
        let traits = *sys::ggml_get_type_traits(weight_type.ggml_type());
        let to_float = traits.to_float.expect("ggml reads this type");
        to_float(block.as_ptr().cast(), weights.as_mut_ptr(), 256);
    }
    weights
}

#[cfg(test)]
fn dequantize<P: Packing>(block: &[u8]) -> Vec<f64> {
    weights(256, |i| {
        let (group, at) = (i / 32, i % 32);
        let point = grid::<P>()[P::number(block, group, at / P::POINT)];
        let magnitude = f64::from((point >> (at % P::POINT * 8)) as u8);
        let scale = f64::from(P::scales(block, group)[at / 16]) / f64::from(P::DIVISOR);
        let negative = P::signs(block, group) >> at & 1 == 1;
        let sign = if negative { -1.0 } else { 1.0 };
        f16(block, 0) * scale * sign * magnitude
    })
}

macro_rules! format {
    ($packing:ident, $number:literal) => {
        Format {
            number: $number,
            block_len: 256,
            block_bytes: $packing::BYTES,
            minimum: None,
            #[cfg(test)]
            halves: &[0],
            #[cfg(test)]
            dequantize: dequantize::<$packing>,
            kernel: kernels! { avx2 grid::Of<$packing> },
        }
    };
}

pub(super) const IQ2_XXS: Format = format!(Iq2Xxs, 16);
pub(super) const IQ2_XS: Format = format!(Iq2Xs, 17);
pub(super) const IQ2_S: Format = format!(Iq2S, 22);
pub(super) const IQ3_XXS: Format = format!(Iq3Xxs, 18);
pub(super) const IQ3_S: Format = format!(Iq3S, 21);
