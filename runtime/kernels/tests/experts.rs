//! Products, of experts too, computed by ggml's own threads: against ggml's own way, against plain products, and whatever
//! they are computed together with.
#![cfg(feature = "ggml")]

use std::ptr::null_mut;

use cloister_kernels::{WeightType, enable};
use llama_cpp_sys_2 as sys;

/// Floats that are the same each time.
fn floats(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as i32 as f32 / 2e9
    };
    (0..count).map(|_| next()).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Experts of `rows` rows of `k` weights each.
struct Weights {
    weight_type: WeightType,
    k: usize,
    rows: usize,
    experts: usize,
    bytes: Vec<u8>,
}

impl Weights {
    fn new(weight_type: WeightType, k: usize, rows: usize, experts: usize) -> Self {
        // Noise that is no infinite scale.
        let bytes = floats(1, weight_type.row_bytes(k) * rows * experts)
            .iter()
            .map(|x| (x.abs() * 60.0) as u8 % 61)
            .collect();
        Self {
            weight_type,
            k,
            rows,
            experts,
            bytes,
        }
    }

    /// What ggml's CPU backend computes with `threads` threads: of expert `ids[i]`, or of the first one, with the
    /// columns of `input`, as many for each token as `shape` says.
    fn multiply(&self, input: &[f32], shape: Shape, ids: &[i32], threads: i32) -> Vec<f32> {
        let Shape { tokens, inputs } = shape;
        let parameters = sys::ggml_init_params {
            mem_size: 1 << 20,
            mem_buffer: null_mut(),
            no_alloc: true,
        };
        let f32_type = sys::GGML_TYPE_F32;
        // SAFETY: tensors have the sizes of what is copied to and from them; all is freed after its last use.
        unsafe {
            let context = sys::ggml_init(parameters);
            let (k, rows) = (self.k as i64, self.rows as i64);
            let number = self.weight_type.ggml_type();
            let weights = sys::ggml_new_tensor_3d(context, number, k, rows, self.experts as i64);
            let columns =
                sys::ggml_new_tensor_3d(context, f32_type, k, inputs as i64, tokens as i64);
            let (chosen, product);
            if ids.is_empty() {
                let first = sys::ggml_view_2d(context, weights, k, rows, (*weights).nb[1], 0);
                chosen = null_mut();
                product = sys::ggml_mul_mat(context, first, columns);
            } else {
                let used = (ids.len() / tokens) as i64;
                let i32_type = sys::GGML_TYPE_I32;
                chosen = sys::ggml_new_tensor_2d(context, i32_type, used, tokens as i64);
                product = sys::ggml_mul_mat_id(context, weights, columns, chosen);
            }
            let backend = sys::ggml_backend_cpu_init();
            sys::ggml_backend_cpu_set_n_threads(backend, threads);
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
            let set = |tensor, data: *const _, bytes| {
                sys::ggml_backend_tensor_set(tensor, data, 0, bytes);
            };
            set(weights, self.bytes.as_ptr().cast(), self.bytes.len());
            set(columns, input.as_ptr().cast(), size_of_val(input));
            if !ids.is_empty() {
                set(chosen, ids.as_ptr().cast(), size_of_val(ids));
            }
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, product);
            let status = sys::ggml_backend_graph_compute(backend, graph);
            assert_eq!(status, sys::GGML_STATUS_SUCCESS);
            let mut output = vec![0f32; sys::ggml_nelements(product) as usize];
            let bytes = size_of_val(&output[..]);
            sys::ggml_backend_tensor_get(product, output.as_mut_ptr().cast(), 0, bytes);
            sys::ggml_backend_buffer_free(buffer);
            sys::ggml_backend_free(backend);
            sys::ggml_free(context);
            output
        }
    }

    /// The expert's alone.
    fn of(&self, expert: usize) -> Self {
        let bytes = self.bytes.len() / self.experts;
        Self {
            experts: 1,
            bytes: self.bytes[expert * bytes..][..bytes].to_vec(),
            ..*self
        }
    }
}

#[derive(Clone, Copy)]
struct Shape {
    tokens: usize,
    /// Columns of a token.
    inputs: usize,
}

#[test]
fn experts_multiply_as_plain_products_do_and_as_ggml_does() {
    const USED: usize = 3;
    for weight_type in WeightType::ALL.iter().copied() {
        let weights = Weights::new(weight_type, 512, 83, 5);
        for (tokens, inputs) in [(1, 1), (1, USED), (7, 1), (12, 1), (40, USED), (40, 1)] {
            let shape = Shape { tokens, inputs };
            let input = floats(2, weights.k * inputs * tokens);
            // One is everybody's, two are every second token's, the last one is nobody's.
            let ids: Vec<i32> = (0..tokens as i32)
                .flat_map(|token| [0, 1 + token % 2, 3])
                .collect();
            enable(false);
            let ggml = weights.multiply(&input, shape, &ids, 2);
            enable(true);
            let ours = weights.multiply(&input, shape, &ids, 2);
            let length = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            let apart: Vec<f32> = ours.iter().zip(&ggml).map(|(a, b)| a - b).collect();
            // The same but for the order of additions.
            assert!(
                length(&apart) < 1e-6 * length(&ggml),
                "{weight_type:?}, {tokens} tokens of {inputs}: {} of {}",
                length(&apart),
                length(&ggml)
            );
            let alone = weights.multiply(&input, shape, &ids, 1);
            assert_eq!(bits(&alone), bits(&ours), "{weight_type:?}, of one thread");
            for (i, id) in ids.iter().enumerate().step_by(1 + tokens / 4) {
                let column = (i / USED * inputs + i % USED % inputs) * weights.k;
                let lone = Shape {
                    tokens: 1,
                    inputs: 1,
                };
                let expected = weights.of(*id as usize).multiply(
                    &input[column..column + weights.k],
                    lone,
                    &[],
                    1,
                );
                let products = &ours[i * weights.rows..][..weights.rows];
                assert_eq!(bits(products), bits(&expected), "{weight_type:?}, {i}");
            }
        }
    }
}

/// As many as a step has that checks drafts, or answers several clients. Whether the kernels or ggml computes them is no
/// matter.
#[test]
fn a_column_has_the_same_product_whatever_it_is_batched_with() {
    const MOST: usize = 32;
    enable(true);
    for weight_type in WeightType::ALL.iter().copied() {
        let weights = Weights::new(weight_type, 1536, 83, 1);
        let input = floats(3, weights.k * MOST);
        let multiply = |columns: &[f32]| {
            let inputs = columns.len() / weights.k;
            let shape = Shape { tokens: 1, inputs };
            bits(&weights.multiply(columns, shape, &[], 2))
        };
        let alone: Vec<u32> = input.chunks(weights.k).flat_map(&multiply).collect();
        for columns in (2..10).chain([15, 16, 17, MOST]) {
            assert!(
                multiply(&input[..columns * weights.k]) == alone[..columns * weights.rows],
                "{weight_type:?}, {columns} columns"
            );
        }
    }
}

#[test]
fn what_is_no_number_in_ggmls_own_way_is_none_here() {
    for weight_type in WeightType::ALL.iter().copied() {
        let weights = Weights::new(weight_type, 512, 83, 1);
        for (element, count) in [(f32::INFINITY, 1), (f32::NAN, 1), (f32::NAN, 512)] {
            for inputs in [1, 4, 9] {
                let mut input = floats(4, weights.k * inputs);
                input[..count].fill(element);
                let shape = Shape { tokens: 1, inputs };
                enable(false);
                let ggml = weights.multiply(&input, shape, &[], 2);
                enable(true);
                let ours = weights.multiply(&input, shape, &[], 2);
                let what = format!("{weight_type:?}, {count} of {element}, {inputs} columns");
                let mut both = ours.iter().zip(&ggml);
                assert!(
                    both.all(|(ours, ggml)| ours.is_finite() <= ggml.is_finite()),
                    "{what}"
                );
                let sound = &ours[weights.rows..];
                assert!(sound.iter().all(|x| x.is_finite()), "{what}");
            }
        }
    }
}
