//! How activations are rounded.

use super::{bits, kernels, products, quantized, row};
use crate::WeightType;
use crate::activation::Layout;
#[cfg(feature = "ggml")]
use crate::rounding::halved;
use crate::simd::Kernel;

#[test]
fn a_value_that_is_no_number_spoils_its_own_block_only_and_harms_nobody() {
    for kernel in kernels(WeightType::Q8_0) {
        spoils_its_own_block_only(&kernel);
    }
}

fn spoils_its_own_block_only(kernel: &Kernel) {
    let layout = Layout::new(kernel, WeightType::Q8_0, 64, 1);
    let mut input = vec![1.0f32; 64];
    input[3] = f32::NAN;
    let columns = quantized(layout, &[input]);
    let values: Vec<i8> = columns[..64].iter().map(|v| *v as i8).collect();
    assert_eq!(values[3], 0);
    assert_eq!(values[32..], [127; 32]);
}

/// A broken model must not look sound.
#[test]
fn products_of_what_is_no_number_or_infinite_are_none_and_others_are_as_ever() {
    let mut state = 5u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    for weight_type in WeightType::ALL.iter().copied() {
        let k = 5 * weight_type.block_len();
        let weights = row(weight_type, k, &mut || (next() >> 24) as u8);
        let inputs: Vec<Vec<f32>> = (0..9)
            .map(|_| (0..k).map(|_| next() as i32 as f32).collect())
            .collect();
        for kernel in kernels(weight_type) {
            let sound = products(&kernel, weight_type, &weights, &inputs);
            for element in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for count in [1, 2, 5, 9] {
                    let mut some = inputs[..count].to_vec();
                    some[count / 2][k - 7] = element;
                    let mut all = products(&kernel, weight_type, &weights, &some);
                    let broken = std::mem::replace(&mut all[count / 2], sound[count / 2]);
                    let what = format!("{:?}, {weight_type:?}, {element}", kernel.simd);
                    assert!(!broken.is_finite(), "{what}: {broken}");
                    assert_eq!(bits(&all), bits(&sound[..count]), "{what}");
                }
            }
        }
    }
}

#[test]
fn activations_have_the_same_bits_with_every_instruction_set() {
    let mut state = 9u32;
    let mut input: Vec<f32> = (0..1024)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as i32 as f32 / 3e8
        })
        .collect();
    // Halves, which are rounded to even, and what is no number, too small or too large.
    input[..256].iter_mut().for_each(|x| *x = x.round() + 0.5);
    input[0] = 127.0;
    input[300] = f32::NAN;
    input[520..768].fill(1e-41);
    input[800] = f32::INFINITY;
    for weight_type in [WeightType::Q8_0, WeightType::Q4_1, WeightType::Q2K] {
        let mut all = kernels(weight_type).map(|kernel| {
            let layout = Layout::new(&kernel, weight_type, input.len(), 1);
            (kernel.simd, quantized(layout, std::slice::from_ref(&input)))
        });
        let (_, first) = all.next().expect("this machine has kernels");
        for (simd, columns) in all {
            assert_eq!(columns, first, "{simd:?}, {weight_type:?}");
        }
    }
}

#[cfg(feature = "ggml")]
#[test]
fn scales_are_rounded_to_half_precision_as_ggml_does_it() {
    let mut state = 3u32;
    for _ in 0..1_000_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Of all exponents that halves have, and a few more; now and then right between two of them.
        let exponent = 90 + (state >> 8) % 55;
        let bits = state & 0x8000_0000 | exponent << 23 | state.rotate_left(9) & 0x7f_ffff;
        let bits = if state & 64 == 0 { bits & !0xfff } else { bits };
        let x = f32::from_bits(bits);
        // SAFETY: they are plain functions of numbers.
        let rounded =
            unsafe { llama_cpp_sys_2::ggml_fp16_to_fp32(llama_cpp_sys_2::ggml_fp32_to_fp16(x)) };
        let expected = if rounded.is_finite() { rounded } else { x };
        assert_eq!(halved(x).to_bits(), expected.to_bits(), "{x}");
    }
}
