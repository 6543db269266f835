//! The reference: every weight and every activation spelled out, one product after the other, in double
//! precision. The other paths are compared with it; none of them uses it.

use crate::WeightType;

/// The weights of one block of `bytes`, in order.
pub fn dequantize_block(weight_type: WeightType, bytes: &[u8]) -> Vec<f64> {
    let f16 = |at: usize| f16_to_f64(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let nibble = |packed: &[u8], i: usize| f64::from(packed[i % 16] >> (i / 16 * 4) & 15);
    let fifth = |bits: &[u8], i: usize| f64::from(bits[i / 8] >> (i % 8) & 1) * 16.0;
    let one_of_32 = |weight: &dyn Fn(usize) -> f64| (0..32).map(weight).collect();
    match weight_type {
        WeightType::Q4_0 => one_of_32(&|i| f16(0) * (nibble(&bytes[2..], i) - 8.0)),
        WeightType::Q4_1 => one_of_32(&|i| f16(0) * nibble(&bytes[4..], i) + f16(2)),
        WeightType::Q5_0 => {
            one_of_32(&|i| f16(0) * (nibble(&bytes[6..], i) + fifth(&bytes[2..6], i) - 16.0))
        }
        WeightType::Q5_1 => {
            one_of_32(&|i| f16(0) * (nibble(&bytes[8..], i) + fifth(&bytes[4..8], i)) + f16(2))
        }
        WeightType::Q8_0 => one_of_32(&|i| f16(0) * f64::from(bytes[2 + i] as i8)),
        WeightType::Q4K | WeightType::Q5K => {
            let (scales, rest) = bytes[4..].split_at(12);
            let five = weight_type == WeightType::Q5K;
            let (high, low) = rest.split_at(if five { 32 } else { 0 });
            (0..256)
                .map(|i| {
                    let (group, at) = (i / 32, i % 32);
                    let (scale, min) = scale_and_min(scales, group);
                    let mut value = low[group / 2 * 32 + at] >> (group % 2 * 4) & 15;
                    if five {
                        value |= (high[at] >> group & 1) << 4;
                    }
                    f16(0) * f64::from(scale) * f64::from(value) - f16(2) * f64::from(min)
                })
                .collect()
        }
        WeightType::Q6K => {
            let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
            (0..256)
                .map(|i| {
                    let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
                    let nibble = low[half * 64 + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
                    let two = high[half * 32 + at] >> (quarter * 2) & 3;
                    let value = i32::from(nibble | two << 4) - 32;
                    f16(208) * f64::from(scales[i / 16] as i8) * f64::from(value)
                })
                .collect()
        }
        WeightType::Q2K => (0..256)
            .map(|i| {
                let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
                let value = bytes[16 + half * 32 + at] >> (quarter * 2) & 3;
                let (scale, min) = (bytes[i / 16] & 15, bytes[i / 16] >> 4);
                f16(80) * f64::from(scale) * f64::from(value) - f16(82) * f64::from(min)
            })
            .collect(),
        WeightType::Q3K => {
            let (third, low, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
            (0..256)
                .map(|i| {
                    let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
                    let two = low[half * 32 + at] >> (quarter * 2) & 3;
                    let value = two | (third[at] >> (half * 4 + quarter) & 1) << 2;
                    let group = i / 16;
                    let scale = scales[group % 8] >> (group / 8 * 4) & 15
                        | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
                    f16(108) * (f64::from(scale) - 32.0) * (f64::from(value) - 4.0)
                })
                .collect()
        }
        WeightType::Iq4Nl => one_of_32(&|i| f16(0) * IQ4[nibble(&bytes[2..], i) as usize]),
        WeightType::Iq4Xs => (0..256)
            .map(|i| {
                let (group, at) = (i / 32, i % 32);
                let upper = u16::from_le_bytes([bytes[2], bytes[3]]) >> (group * 2) & 3;
                let scale = bytes[4 + group / 2] >> (group % 2 * 4) & 15 | (upper as u8) << 4;
                let number = nibble(&bytes[8 + group * 16..], at) as usize;
                f16(0) * (f64::from(scale) - 32.0) * IQ4[number]
            })
            .collect(),
    }
}

/// The weights that the four bits of IQ4_NL and IQ4_XS number.
const IQ4: [f64; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// The six-bit scale and minimum of `group`, 0 to 7, from the twelve bytes of Q4_K and Q5_K.
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

/// The dot product of one row with one quantized column; and the sum of its terms' magnitudes, to which
/// the rounding of another order of additions is proportional.
///
/// # Safety
/// `column` is one of `layout`'s, quantized.
#[cfg(test)]
pub(crate) unsafe fn dot(
    weight_type: WeightType,
    row: &[u8],
    layout: crate::activation::Layout,
    column: crate::activation::Column,
) -> (f64, f64) {
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (block, bytes) in row.chunks_exact(weight_type.block_bytes()).enumerate() {
        let weights = dequantize_block(weight_type, bytes);
        // SAFETY: the layout has a scale for each block and a value for each weight.
        let scale = f64::from(unsafe { column.scales.add(block).read_unaligned() });
        for (i, weight) in weights.iter().enumerate() {
            // SAFETY: as above.
            let value = unsafe { *column.values.add(block * layout.block_len + i) };
            let term = weight * scale * f64::from(value);
            sum += term;
            magnitude += term.abs();
        }
    }
    (sum, magnitude)
}

/// IEEE 754 half precision.
fn f16_to_f64(bits: u16) -> f64 {
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
