//! Q8_0, Q4_0 and Q6_K without an importance matrix, byte for byte as ggml quantizes them, in loops
//! that the compiler turns into SIMD. ggml's own are compiled for any x86-64, an element at a time,
//! and Q6_K, which tries 19 scales for each 16 weights, takes most of the time of many conversions.
//!
//! In: F32 of whole blocks. Out: their bytes, or word that ggml is to do it. Sums must run in ggml's
//! order, or they round otherwise: so the 16 sub-blocks of a super-block lie side by side, a lane
//! each. It must never be used where ggml's compiler may fuse multiplications with additions.

use cloister_gguf::TensorType;

use crate::ggml::{f16_bits, f16_value};

/// Elements of a sub-block of Q6_K, and sub-blocks of a super-block.
const SUB: usize = 16;

/// The first elements of all sub-blocks, the second ones, ...
type Lanes<T> = [T; SUB];

/// A weight beyond this would overflow sums of its fourth power; nobody has such weights.
const TOO_LARGE: f32 = 1e8;

/// Below this, ggml takes weights for zero.
const ZERO: f32 = 1e-15;

/// Quantizes `values` into `bytes`, which have the right length for each other. False, with any
/// bytes, if ggml is to do it: another type, another machine, or numbers at the edge of F32 or, as
/// scales, of F16. True means that the bytes mean finite numbers.
pub fn quantize(tensor_type: TensorType, values: &[f32], bytes: &mut [u8]) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    match tensor_type {
        TensorType::Q8_0 => {
            let blocks = bytes.as_chunks_mut::<34>().0.iter_mut();
            blocks
                .zip(values.as_chunks::<32>().0)
                .all(|(b, x)| q8_0(x, b))
        }
        TensorType::Q4_0 => {
            let blocks = bytes.as_chunks_mut::<18>().0.iter_mut();
            blocks
                .zip(values.as_chunks::<32>().0)
                .all(|(b, x)| q4_0(x, b))
        }
        TensorType::Q6_K => {
            let blocks = bytes.as_chunks_mut::<210>().0.iter_mut();
            blocks
                .zip(values.as_chunks::<256>().0)
                .all(|(b, x)| q6_k(x, b))
        }
        _ => false,
    }
}

/// A scale in F16, then 32 bytes.
fn q8_0(x: &[f32; 32], block: &mut [u8; 34]) -> bool {
    let scale = farthest(x) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let stored = f16_bits(scale);
    block[..2].copy_from_slice(&stored.to_le_bytes());
    for (byte, v) in block[2..].iter_mut().zip(x) {
        *byte = nearest((v * inverse).round()) as u8;
    }
    inverse.is_finite() && is_finite_f16(stored)
}

/// The greatest distance from zero. As bits, which have its order: that takes no order of comparisons
/// to keep, and so any SIMD.
fn farthest(x: &[f32]) -> f32 {
    let bits = x.iter().map(|v| v.abs().to_bits());
    f32::from_bits(bits.fold(0, u32::max))
}

fn is_finite_f16(bits: u16) -> bool {
    bits & 0x7c00 != 0x7c00
}

/// A scale in F16, then 16 bytes: the first half of the elements in the low nibbles, the second in
/// the high ones. The element that is farthest from zero becomes -8.
fn q4_0(x: &[f32; 32], block: &mut [u8; 18]) -> bool {
    let most = farthest(x);
    let is_there = |v: f32| {
        let equal = x.iter().map(|other| u32::from(*other == v));
        equal.fold(0, |any, equal| any | equal) != 0
    };
    let farthest = match (is_there(most), is_there(-most)) {
        (true, false) => most,
        (false, _) => -most,
        // Both signs reach as far: the first decides. All zeroes have a positive one.
        (true, true) if most == 0.0 => 0.0,
        (true, true) => *x.iter().find(|v| v.abs() == most).unwrap_or(&most),
    };
    let scale = farthest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let stored = f16_bits(scale);
    block[..2].copy_from_slice(&stored.to_le_bytes());
    let nibble = |v: f32| nearest((v * inverse + 8.5).trunc()).min(15) as u8;
    let (low, high) = x.split_at(16);
    for ((byte, low), high) in block[2..].iter_mut().zip(low).zip(high) {
        *byte = nibble(*low) | nibble(*high) << 4;
    }
    inverse.is_finite() && is_finite_f16(stored)
}

/// 128 bytes of low nibbles, 64 of the two bits above, a byte of scale for each sub-block, and a scale
/// of the scales in F16.
fn q6_k(x: &[f32; 256], block: &mut [u8; 210]) -> bool {
    if farthest(x) > TOO_LARGE {
        return false;
    }
    let mut columns = [[0f32; SUB]; SUB];
    for (sub, elements) in x.as_chunks::<SUB>().0.iter().enumerate() {
        for (column, v) in columns.iter_mut().zip(elements) {
            column[sub] = *v;
        }
    }
    let (scales, mut levels) = best_scales(&columns);
    let mut farthest = 0f32;
    for scale in scales {
        if scale.abs() > farthest.abs() {
            farthest = scale;
        }
    }
    if farthest.abs() < ZERO {
        block.fill(0);
        return true;
    }
    let inverse = -128.0 / farthest;
    let outer = f16_bits(1.0 / inverse);
    let inner = scales.map(|scale| nearest(inverse * scale).min(127) as i8);
    let steps = inner.map(|inner| f16_value(outer) * f32::from(inner));
    for (column, levels) in columns.iter().zip(&mut levels) {
        for lane in 0..SUB {
            let level = nearest(column[lane] / steps[lane]).clamp(-32, 31) + 32;
            // Where there is no step, what the search found stays.
            levels[lane] = if steps[lane] == 0.0 {
                levels[lane]
            } else {
                level
            };
        }
    }

    let (low, rest) = block.split_at_mut(128);
    let (high, rest) = rest.split_at_mut(64);
    let level = |element: usize| levels[element % SUB][element / SUB] as u8;
    for half in 0..2 {
        for i in 0..32 {
            let [a, b, c, d] = [0, 32, 64, 96].map(|quarter| level(128 * half + quarter + i));
            low[64 * half + i] = a & 15 | c << 4;
            low[64 * half + 32 + i] = b & 15 | d << 4;
            high[32 * half + i] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
    for (byte, inner) in rest.iter_mut().zip(inner) {
        *byte = inner as u8;
    }
    rest[SUB..].copy_from_slice(&outer.to_le_bytes());
    is_finite_f16(outer)
}

/// For each lane the scale, of those around the one that takes the farthest element to -32, with the
/// least error weighted by squares, and the levels, from 0 to 63, that the elements get with it.
fn best_scales(columns: &[Lanes<f32>; SUB]) -> (Lanes<f32>, [Lanes<i32>; SUB]) {
    let mut farthest = [0f32; SUB];
    for column in columns {
        for lane in 0..SUB {
            let farther = column[lane].abs() > farthest[lane].abs();
            farthest[lane] = if farther {
                column[lane]
            } else {
                farthest[lane]
            };
        }
    }
    // A lane of zeroes goes along with any number, and is emptied at the end.
    let is_zero = farthest.map(|v| v.abs() < ZERO);
    let farthest: Lanes<f32> = std::array::from_fn(|i| if is_zero[i] { 1.0 } else { farthest[i] });

    let mut taken = farthest.map(|v| -32.0 / v);
    let (products, squares) = fit(columns, &taken);
    let mut scale = [0f32; SUB];
    let mut best = [0f32; SUB];
    for lane in 0..SUB {
        let quotient = products[lane] / squares[lane];
        scale[lane] = if squares[lane] == 0.0 { 0.0 } else { quotient };
        best[lane] = scale[lane] * products[lane];
    }
    for tenth in (-9..=9).filter(|tenth| *tenth != 0) {
        let inverse = farthest.map(|v| -(32.0 + 0.1 * tenth as f32) / v);
        let (products, squares) = fit(columns, &inverse);
        // A loop each, without branches.
        let quotient: Lanes<f32> = std::array::from_fn(|i| products[i] / squares[i]);
        let better: Lanes<bool> = std::array::from_fn(|i| {
            (squares[i] > 0.0) & (products[i] * products[i] > best[i] * squares[i])
        });
        scale = select(&better, &quotient, &scale);
        let error: Lanes<f32> = std::array::from_fn(|i| quotient[i] * products[i]);
        best = select(&better, &error, &best);
        taken = select(&better, &inverse, &taken);
    }

    let mut levels = [[0i32; SUB]; SUB];
    for (column, levels) in columns.iter().zip(&mut levels) {
        for lane in 0..SUB {
            let level = nearest(taken[lane] * column[lane]).clamp(-32, 31) + 32;
            levels[lane] = if is_zero[lane] { 0 } else { level };
        }
    }
    for lane in 0..SUB {
        scale[lane] = if is_zero[lane] { 0.0 } else { scale[lane] };
    }
    (scale, levels)
}

/// Of each lane the first where it is true, else the second.
fn select(which: &Lanes<bool>, first: &Lanes<f32>, second: &Lanes<f32>) -> Lanes<f32> {
    std::array::from_fn(|i| if which[i] { first[i] } else { second[i] })
}

/// Sums over each lane, weighted by squares: elements times their levels, and squares of levels.
fn fit(columns: &[Lanes<f32>; SUB], inverse: &Lanes<f32>) -> (Lanes<f32>, Lanes<f32>) {
    let (mut products, mut squares) = ([0f32; SUB], [0f32; SUB]);
    for column in columns {
        for lane in 0..SUB {
            let x = column[lane];
            let level = nearest(inverse[lane] * x).clamp(-32, 31) as f32;
            let weight = x * x;
            products[lane] += weight * x * level;
            squares[lane] += weight * level * level;
        }
    }
    (products, squares)
}

/// The nearest whole number, of two the even one, for what is below 2^22: added to a number so large
/// that an F32 there has no room for fractions. A cast, which must mind what is not below, is no SIMD.
fn nearest(v: f32) -> i32 {
    let sum = v + 12_582_912.0;
    (sum.to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ggml;

    /// Weights of many shapes: smooth, with outliers, tiny, with zeroes, of one sign, on a grid.
    fn weights(blocks: usize) -> Vec<f32> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = || {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut values = Vec::new();
        for block in 0..blocks {
            for element in 0..256 {
                let v = random();
                values.push(match (block % 10, element % 16) {
                    (0, _) => v * v * v * 0.2,
                    (1, 3) => v * 100.0,
                    (1, _) => v * 0.01,
                    (2, _) => v * 1e-14,
                    (3, _) => v * 1e-20,
                    (4, i) if (element / 16 + i) % 3 == 0 => 0.0,
                    (4, _) if element < 128 => -0.0,
                    (5, _) => v.abs(),
                    (6, _) => (v * 8.0).round() / 8.0,
                    (7, _) => (v * 127.0).round() * 0.5,
                    (8, _) => v * 1e5,
                    (9, i) if i > 2 => 0.0,
                    _ => v,
                });
            }
        }
        values
    }

    #[test]
    fn the_bytes_are_those_of_ggml() {
        let values = weights(4000);
        for t in [TensorType::Q8_0, TensorType::Q4_0, TensorType::Q6_K] {
            let size = t.bytes_of(values.len() as u64).unwrap() as usize;
            let (mut own, mut of_ggml) = (vec![0; size], vec![1; size]);
            assert!(quantize(t, &values, &mut own), "{t}");
            ggml::from_f32_by_ggml(t, &values, 256, None, &mut of_ggml);
            let block = size / (values.len() / 256);
            let wrong = (0..size).find(|&i| own[i] != of_ggml[i]);
            assert_eq!(
                wrong.map(|i| (i / block, i % block)),
                None,
                "{t}: block, byte"
            );
        }
    }

    #[test]
    fn numbers_at_the_edge_are_left_to_ggml() {
        let tiny = [1e-38f32; 256];
        let mut bytes = [0; 1000];
        assert!(!quantize(TensorType::Q8_0, &tiny, &mut bytes[..272]));
        assert!(!quantize(TensorType::Q4_0, &tiny, &mut bytes[..144]));
        // Its scale is beyond F16.
        let large = [1e6f32; 256];
        assert!(!quantize(TensorType::Q4_0, &large, &mut bytes[..144]));
        let huge = [1e30f32; 256];
        assert!(!quantize(TensorType::Q6_K, &huge, &mut bytes[..210]));
        assert!(!quantize(TensorType::Q5_K, &tiny, &mut bytes[..176]));
    }
}
