//! How activations become 8-bit numbers. In: a block of floats. Out: whole numbers, their sums, and the largest magnitude.

/// 1.5 times 2 to the 23rd. Whole numbers within 2 to the 22nd may be added to its bits, or to itself, to the same effect.
pub(crate) const WHOLE: f32 = 12_582_912.0;

/// What values of a block are multiplied with whose largest magnitude this is. No number for none.
pub(crate) fn inverse(largest: f32) -> f32 {
    if largest == 0.0 { 0.0 } else { 127.0 / largest }
}

/// Rounded to half precision, ties to even; but as it is beyond its largest number.
pub(crate) fn halved(x: f32) -> f32 {
    let (magnitude, bits) = (x.abs(), x.to_bits());
    if magnitude < 6.103_515_6e-5 {
        // Below 2 to the -14th, half precision counts in steps of what 0.5 has as its last place.
        ((magnitude + 0.5) - 0.5).copysign(x)
    } else if magnitude < 65520.0 {
        f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff)
    } else {
        x
    }
}

/// Quantizes a block; gives the largest magnitude, and of each 16 values, the sum.
pub(crate) fn quantize(input: &[f32], values: &mut [i8]) -> (f32, [i32; 16]) {
    let largest = largest_magnitude(input);
    let inverse = inverse(largest);
    for (value, x) in values.iter_mut().zip(input) {
        *value = rounded(x * inverse);
    }
    let mut sums = [0; 16];
    for (sum, values) in sums.iter_mut().zip(values.chunks_exact(16)) {
        *sum = values.iter().map(|v| i32::from(*v)).sum();
    }
    (largest, sums)
}

/// No number if any of them is none: as bits, these are larger than all numbers. Eight maxima side by side, so that the
/// compiler may use a register of them.
fn largest_magnitude(input: &[f32]) -> f32 {
    let mut lanes = [0u32; 8];
    for chunk in input.chunks_exact(8) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = x.abs().to_bits().max(*lane);
        }
    }
    f32::from_bits(lanes.into_iter().fold(0, u32::max))
}

/// The nearest whole number, ties to even, of a number between -128 and 127; 0 of a NaN.
///
/// Where [`WHOLE`] is added, no bits remain for a fraction, and the low ones are the number.
fn rounded(x: f32) -> i8 {
    let x = if x.is_nan() { 0.0 } else { x };
    (x + WHOLE).to_bits() as i8
}
