//! The reference: every weight and every activation spelled out, one product after the other, in double
//! precision. The other paths are compared with it; none of them uses it.

use crate::WeightType;
use crate::activation::{Column, Layout};

/// `count` weights of a block.
pub fn weights(count: usize, weight: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..count).map(weight).collect()
}

/// The number of half precision at byte `at` of `block`: IEEE 754.
pub fn f16(block: &[u8], at: usize) -> f64 {
    let bits = u16::from_le_bytes([block[at], block[at + 1]]);
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match bits >> 10 & 31 {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// Weight `i` of 32 in 16 bytes: the low halves, then the high ones.
pub fn nibble(packed: &[u8], i: usize) -> f64 {
    f64::from(packed[i % 16] >> (i / 16 * 4) & 15)
}

/// What bit `i` adds to a weight of four bits: 16, or nothing.
pub fn fifth_bit(bits: &[u8], i: usize) -> f64 {
    f64::from(bits[i / 8] >> (i % 8) & 1) * 16.0
}

/// The dot product of one row with one quantized column; and the sum of its terms' magnitudes, to which
/// the rounding of another order of additions is proportional.
///
/// # Safety
/// `column` is one of `layout`'s, quantized, and lies alone.
pub unsafe fn dot(
    weight_type: WeightType,
    row: &[u8],
    layout: Layout,
    column: Column,
) -> (f64, f64) {
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (block, bytes) in row.chunks_exact(weight_type.block_bytes()).enumerate() {
        let weights = (weight_type.format().dequantize)(bytes);
        // SAFETY: the layout has a scale for each block and a value for each weight.
        let scale = f64::from(unsafe { column.scales.add(block).read_unaligned() });
        let mut total = 0.0;
        for (i, weight) in weights.iter().enumerate() {
            // SAFETY: as above.
            let value = unsafe { *column.values.add(block * layout.block_len + i) };
            let term = weight * scale * f64::from(value);
            sum += term;
            magnitude += term.abs();
            total += scale * f64::from(value);
        }
        // The sum of the values, times the scale, has a rounding of its own.
        if let Some(at) = weight_type.format().minimum {
            // SAFETY: as above.
            let rounded = unsafe { column.sums.cast::<f32>().add(block).read_unaligned() };
            let term = f16(bytes, at) * (f64::from(rounded) - total);
            sum += term;
            magnitude += term.abs();
        }
    }
    (sum, magnitude)
}
