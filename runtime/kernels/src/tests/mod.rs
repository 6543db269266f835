//! Every path against the reference; the reference against ggml.

mod activations;

#[cfg(feature = "ggml")]
use llama_cpp_sys_2 as sys;
use proptest::prelude::*;

use crate::activation::Layout;
use crate::panel::Panel;
use crate::simd::{Kernel, Simd};
use crate::{WeightType, scalar};

/// Random bytes that are a row of sound blocks: scales are finite, everything else may be anything.
fn row(weight_type: WeightType, k: usize, random: &mut impl FnMut() -> u8) -> Vec<u8> {
    let mut row: Vec<u8> = (0..weight_type.row_bytes(k)).map(|_| random()).collect();
    for block in row.chunks_exact_mut(weight_type.block_bytes()) {
        for at in weight_type.format().halves {
            // The uppermost exponent stands for infinity and NaN.
            if block[at + 1] & 0x7c == 0x7c {
                block[at + 1] &= !0x40;
            }
        }
    }
    row
}

/// The type's kernels that this machine can run.
fn kernels(weight_type: WeightType) -> impl Iterator<Item = Kernel> {
    Simd::available().filter_map(move |simd| weight_type.kernel_with(simd))
}

fn quantized(layout: Layout, inputs: &[Vec<f32>]) -> Vec<u8> {
    let mut columns = vec![0xa5; layout.bytes(inputs.len())];
    let buffer = columns.as_mut_ptr();
    for (i, input) in inputs.iter().enumerate() {
        let half = layout.k / layout.block_len / 2;
        // SAFETY: input and columns are as long as the layout says.
        unsafe {
            layout.quantize(input.as_ptr(), buffer, i, 0..half);
            layout.quantize(input.as_ptr(), buffer, i, half..layout.k / layout.block_len);
        }
    }
    columns
}

/// Multiplies with each instruction set, with rows and columns apart from each other, and compares with the reference.
fn same_as_scalar(weight_type: WeightType, k: usize, rows: &[Vec<u8>], inputs: &[Vec<f32>]) {
    let mut expected = None;
    for kernel in kernels(weight_type) {
        let expected =
            expected.get_or_insert_with(|| reference(&kernel, weight_type, k, rows, inputs));
        multiplies_as_scalar(&kernel, weight_type, k, rows, inputs, expected);
    }
    assert!(
        Simd::best().is_some(),
        "this machine has no kernels to test"
    );
}

/// Of each column, for each row, what [`scalar::dot`] gives. It takes each column as if it were alone, which has the same
/// values and scales with every instruction set.
fn reference(
    kernel: &Kernel,
    weight_type: WeightType,
    k: usize,
    rows: &[Vec<u8>],
    inputs: &[Vec<f32>],
) -> Vec<Vec<(f64, f64)>> {
    let layout = Layout {
        side_by_side: 0,
        ..Layout::new(kernel, weight_type, k, inputs.len())
    };
    let columns = quantized(layout, inputs);
    let column = |c| layout.column(columns.as_ptr(), c);
    let dot = |row: &Vec<u8>, c| {
        // SAFETY: the column is of this layout.
        unsafe { scalar::dot(weight_type, row, layout, column(c)) }
    };
    (0..inputs.len())
        .map(|c| rows.iter().map(|row| dot(row, c)).collect())
        .collect()
}

fn multiplies_as_scalar(
    kernel: &Kernel,
    weight_type: WeightType,
    k: usize,
    rows: &[Vec<u8>],
    inputs: &[Vec<f32>],
    expected: &[Vec<(f64, f64)>],
) {
    let layout = Layout::new(kernel, weight_type, k, inputs.len());
    let columns = quantized(layout, inputs);
    let (gap, output_stride) = (7, rows.len() + 3);
    let stride = weight_type.row_bytes(k) + gap;
    let mut weights = Vec::new();
    for row in rows {
        weights.extend_from_slice(row);
        weights.extend_from_slice(&[0xff; 7]);
    }
    let untouched = f32::from_bits(0x7fc0_1234);
    let mut output = vec![untouched; output_stride * inputs.len()];
    let panel = Panel {
        weights: weights.as_ptr(),
        weights_stride: stride,
        rows: rows.len(),
        columns: columns.as_ptr(),
        n_columns: inputs.len(),
        layout,
        output: output.as_mut_ptr(),
        output_stride: output_stride * 4,
        picks: std::ptr::null(),
        next: std::ptr::null(),
    };
    // SAFETY: all parts are as long as the panel says.
    unsafe { (kernel.multiply)(&panel) };
    for (c, products) in output.chunks_exact(output_stride).enumerate() {
        for (r, &(expected, magnitude)) in expected[c].iter().enumerate() {
            let error = (f64::from(products[r]) - expected).abs();
            assert!(
                error <= magnitude * 4e-6 + f64::from(f32::MIN_POSITIVE),
                "{:?}, {weight_type:?}, k {k}, row {r}, column {c}: {} instead of {expected}, of {magnitude}",
                kernel.simd,
                products[r]
            );
        }
        for place in &products[rows.len()..] {
            assert_eq!(
                place.to_bits(),
                untouched.to_bits(),
                "written beyond the rows"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_type_multiplies_as_the_reference_does(
        seed in any::<u64>(),
        blocks in 1usize..20,
        rows in 1usize..40,
        columns in 1usize..11,
        exponent in -30i32..30,
    ) {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        for weight_type in WeightType::ALL.iter().copied() {
            let k = blocks * weight_type.block_len();
            let rows: Vec<_> = (0..rows).map(|_| row(weight_type, k, &mut || next() as u8)).collect();
            let inputs: Vec<Vec<f32>> = (0..columns)
                .map(|_| {
                    (0..k)
                        .map(|_| (next() as i32) as f32 / 2e9 * 2f32.powi(exponent))
                        .collect()
                })
                .collect();
            same_as_scalar(weight_type, k, &rows, &inputs);
        }
    }
}

#[test]
fn extreme_blocks_and_activations_overflow_nowhere() {
    for weight_type in WeightType::ALL.iter().copied() {
        let k = 3 * weight_type.block_len();
        for byte in [0x00, 0xff, 0x7f, 0x80, 0x88, 0xf0, 0x0f] {
            let rows = [row(weight_type, k, &mut || byte)];
            let inputs = [
                vec![1.0; k],
                vec![-1.0; k],
                vec![0.0; k],
                (0..k)
                    .map(|i| if i % 2 == 0 { 3e37 } else { -3e37 })
                    .collect(),
                (0..k).map(|i| if i == 5 { 1e-40 } else { 0.0 }).collect(),
            ];
            // Products with the largest half-precision scale are beyond what an f32 holds.
            let inputs = inputs.map(|input: Vec<f32>| {
                input
                    .into_iter()
                    .map(|x| x.clamp(-1e20, 1e20))
                    .collect::<Vec<_>>()
            });
            same_as_scalar(weight_type, k, &rows, &inputs);
        }
    }
}

#[cfg(feature = "ggml")]
#[test]
fn the_reference_reads_blocks_as_ggml_does() {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for weight_type in WeightType::ALL.iter().copied() {
        let n = weight_type.block_len();
        for _ in 0..50 {
            let block = row(weight_type, n, &mut next);
            let mut expected = vec![0f32; n];
            // SAFETY: one block in, as many floats out as it has weights.
            unsafe {
                let traits = *sys::ggml_get_type_traits(weight_type.ggml_type());
                assert_eq!(traits.blck_size as usize, n);
                assert_eq!(traits.type_size, weight_type.block_bytes());
                let to_float = traits.to_float.expect("ggml reads this type");
                to_float(block.as_ptr().cast(), expected.as_mut_ptr(), n as i64);
            }
            for (weight, expected) in (weight_type.format().dequantize)(&block)
                .into_iter()
                .zip(expected)
            {
                let expected = f64::from(expected);
                assert!(
                    (weight - expected).abs() <= 1e-6 * (1.0 + expected.abs() + weight.abs()),
                    "{weight_type:?}: {weight}, and {expected} in ggml"
                );
            }
        }
    }
}

/// The products of one row with all columns.
fn products(
    kernel: &Kernel,
    weight_type: WeightType,
    weights: &[u8],
    inputs: &[Vec<f32>],
) -> Vec<f32> {
    let layout = Layout::new(kernel, weight_type, inputs[0].len(), inputs.len());
    let columns = quantized(layout, inputs);
    let weights_stride = weight_type.row_bytes(layout.k);
    let rows = weights.len() / weights_stride;
    let mut output = vec![0f32; inputs.len() * rows];
    let panel = Panel {
        weights: weights.as_ptr(),
        weights_stride,
        rows,
        columns: columns.as_ptr(),
        n_columns: inputs.len(),
        layout,
        output: output.as_mut_ptr(),
        output_stride: rows * 4,
        picks: std::ptr::null(),
        next: std::ptr::null(),
    };
    // SAFETY: all parts are as long as the panel says.
    unsafe { (kernel.multiply)(&panel) };
    output
}

fn bits(products: &[f32]) -> Vec<u32> {
    products.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_column_has_the_same_product_alone_as_beside_others() {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    for (kernel, weight_type) in WeightType::ALL
        .iter()
        .copied()
        .flat_map(|weight_type| kernels(weight_type).map(move |kernel| (kernel, weight_type)))
    {
        let kernel = &kernel;
        // With AVX-512: more rows than two tiles have, and more weights; with 100 columns, a strip of several tiles and another.
        const ROWS: usize = 35;
        let k = 11 * 256;
        let weights: Vec<u8> = (0..ROWS)
            .flat_map(|_| row(weight_type, k, &mut || (next() >> 24) as u8))
            .collect();
        let inputs: Vec<Vec<f32>> = (0..19)
            .map(|_| (0..k).map(|_| next() as i32 as f32).collect())
            .collect();
        let multiply = |inputs: &[Vec<f32>]| products(kernel, weight_type, &weights, inputs);
        let alone: Vec<f32> = inputs.chunks(1).flat_map(&multiply).collect();
        let cycle = |n| inputs.iter().cloned().cycle().take(n).collect::<Vec<_>>();
        for n in (2..=inputs.len()).chain([100, 523]) {
            let expected: Vec<f32> = alone.iter().copied().cycle().take(n * ROWS).collect();
            assert_eq!(
                bits(&multiply(&cycle(n))),
                bits(&expected),
                "{:?}, {weight_type:?}, {n} columns",
                kernel.simd
            );
        }
    }
}
