//! NEON, which each arm64 CPU has, with dot products where these are there.
//!
//! A row is unpacked once for up to four columns. No sum can overflow, whatever the bytes of a file say.

mod block_32;
mod half;
mod isa;
mod k_quant;

use std::arch::aarch64::*;

use crate::WeightType;
use crate::panel::{Panel, multiply_rows};
use isa::{DotProduct, Isa, Plain};

/// Whether this CPU has dot products.
pub(crate) fn has_dot_products() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Computes `panel`, on any CPU.
///
/// # Safety
/// `panel` keeps its promises.
pub(crate) unsafe fn multiply(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe { multiply_with::<Plain>(weight_type, panel) }
}

/// Computes `panel` with dot products.
///
/// # Safety
/// The CPU [has them](has_dot_products), and `panel` keeps its promises.
pub(crate) unsafe fn multiply_by_dot_products(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe { multiply_with::<DotProduct>(weight_type, panel) }
}

/// # Safety
/// The CPU has what `I` is for, and `panel` keeps its promises.
#[inline(always)]
unsafe fn multiply_with<I: Isa>(weight_type: WeightType, panel: &Panel) {
    // SAFETY: as the caller says.
    unsafe {
        match weight_type {
            WeightType::Q4_0 => multiply_rows::<block_32::Of<block_32::Q4_0, I>>(panel),
            WeightType::Q4_1 => multiply_rows::<block_32::Of<block_32::Q4_1, I>>(panel),
            WeightType::Q5_0 => multiply_rows::<block_32::Of<block_32::Q5_0, I>>(panel),
            WeightType::Q5_1 => multiply_rows::<block_32::Of<block_32::Q5_1, I>>(panel),
            WeightType::Q8_0 => multiply_rows::<block_32::Of<block_32::Q8_0, I>>(panel),
            WeightType::Q4K => multiply_rows::<k_quant::FourBit<I, false>>(panel),
            WeightType::Q5K => multiply_rows::<k_quant::FourBit<I, true>>(panel),
            WeightType::Q6K => multiply_rows::<k_quant::SixBit<I>>(panel),
        }
    }
}

/// Multiplies values in registers as [`multiply`] does, and nothing else; gives the number of operations.
pub(crate) fn multiply_in_registers(rounds: usize) -> usize {
    // SAFETY: each CPU has what it is for.
    unsafe { repeat::<Plain>(rounds) }
}

/// The same as [`multiply_by_dot_products`] does.
///
/// # Safety
/// The CPU [has them](has_dot_products).
pub(crate) unsafe fn multiply_dot_products_in_registers(rounds: usize) -> usize {
    // SAFETY: as the caller says.
    unsafe { repeat::<DotProduct>(rounds) }
}

/// # Safety
/// The CPU has what `I` is for.
#[inline(always)]
unsafe fn repeat<I: Isa>(rounds: usize) -> usize {
    let values = std::hint::black_box([2i8; 128]);
    // SAFETY: there are 128 values, in the first-level cache.
    unsafe {
        let mut weights = std::hint::black_box([vdupq_n_s8(1); 8]);
        let mut total = vdupq_n_s32(0);
        for _ in 0..rounds {
            // Weights that hang on the round: or they would be multiplied once and for all.
            weights[0] = veorq_s8(weights[0], vdupq_n_s8(1));
            total = I::groups_of_32(&weights, values.as_ptr(), vdup_n_s16(1), total);
        }
        std::hint::black_box(total);
    }
    rounds * 128 * 2
}
