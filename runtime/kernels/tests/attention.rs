//! Attention computed by ggml's own threads: against ggml's own way.
#![cfg(feature = "ggml")]

use std::ptr::null_mut;

use cloister_kernels::enable;
use llama_cpp_sys_2 as sys;

/// Floats that are the same each time.
fn floats(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as i32 as f32 / 1e9
    };
    (0..count).map(|_| next()).collect()
}

/// What is attended to, in ggml's order of dimensions.
#[derive(Clone, Copy)]
struct Shape {
    cache: [sys::ggml_type; 2],
    width: i64,
    tokens: i64,
    heads: i64,
    kv_heads: i64,
    streams: i64,
    keys: i64,
    masked: bool,
    sinks: bool,
    softcap: f32,
    /// An element of a key of each head, where that is not to be as random as the others.
    element: Option<f32>,
}

const SHAPE: Shape = Shape {
    cache: [sys::GGML_TYPE_F16; 2],
    width: 64,
    tokens: 1,
    heads: 6,
    kv_heads: 2,
    streams: 1,
    keys: 768,
    masked: true,
    sinks: false,
    softcap: 0.0,
    element: None,
};

/// What ggml's CPU backend computes with `threads` threads.
fn compute(shape: Shape, threads: i32) -> Vec<f32> {
    let parameters = sys::ggml_init_params {
        mem_size: 1 << 20,
        mem_buffer: null_mut(),
        no_alloc: true,
    };
    let Shape {
        width,
        tokens,
        heads,
        kv_heads,
        streams,
        keys,
        ..
    } = shape;
    // SAFETY: tensors have the sizes of what is copied to and from them; all is freed after its last use.
    unsafe {
        let context = sys::ggml_init(parameters);
        let tensor = |number, a, b, c| sys::ggml_new_tensor_4d(context, number, a, b, c, streams);
        let in_order = |tensor| sys::ggml_permute(context, tensor, 0, 2, 1, 3);
        let q = tensor(sys::GGML_TYPE_F32, width, heads, tokens);
        let [k, v] = shape
            .cache
            .map(|number| tensor(number, width, kv_heads, keys));
        let mask = match shape.masked {
            true => tensor(sys::GGML_TYPE_F16, keys, tokens, 1),
            false => null_mut(),
        };
        let scale = 1.0 / (width as f32).sqrt();
        let [q_rows, k_rows, v_rows] = [q, k, v].map(in_order);
        let op = sys::ggml_flash_attn_ext(
            context,
            q_rows,
            k_rows,
            v_rows,
            mask,
            scale,
            0.0,
            shape.softcap,
        );
        let sinks = match shape.sinks {
            true => sys::ggml_new_tensor_1d(context, sys::GGML_TYPE_F32, heads),
            false => null_mut(),
        };
        sys::ggml_flash_attn_ext_add_sinks(op, sinks);
        let backend = sys::ggml_backend_cpu_init();
        sys::ggml_backend_cpu_set_n_threads(backend, threads);
        let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
        let count = |tensor| sys::ggml_nelements(tensor) as usize;
        let set = |tensor, values: &[f32]| {
            let bytes = size_of_val(values);
            sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast(), 0, bytes);
        };
        let pack = |tensor: *mut sys::ggml_tensor, values: &[f32]| {
            let mut bytes = vec![0u8; sys::ggml_nbytes(tensor)];
            let (rows, row) = (values.len() as i64 / (*tensor).ne[0], (*tensor).ne[0]);
            let (from, to) = (values.as_ptr(), bytes.as_mut_ptr().cast());
            sys::ggml_quantize_chunk((*tensor).type_, from, to, 0, rows, row, std::ptr::null());
            sys::ggml_backend_tensor_set(tensor, bytes.as_ptr().cast(), 0, bytes.len());
        };
        set(q, &floats(1, count(q)));
        let mut elements = floats(2, count(k));
        if let Some(element) = shape.element {
            // Of the last key but 99.
            let row = (width * kv_heads) as usize;
            let key = elements.len() - 100 * row;
            let heads = elements[key..][..row].chunks_exact_mut(width as usize);
            heads.for_each(|head| head[7] = element);
        }
        pack(k, &elements);
        pack(v, &floats(3, count(v)));
        if shape.masked {
            // Each token of a stream sees what was before it, of as much as the stream has.
            let sees = |i: i64| {
                let (key, token) = (i % keys, i / keys % tokens);
                key <= keys - 40 - tokens + token - 11 * (i / keys / tokens)
            };
            let values: Vec<f32> = (0..count(mask) as i64)
                .map(|i| if sees(i) { 0.0 } else { f32::NEG_INFINITY })
                .collect();
            pack(mask, &values);
        }
        if shape.sinks {
            set(sinks, &floats(4, heads as usize));
        }
        let graph = sys::ggml_new_graph(context);
        sys::ggml_build_forward_expand(graph, op);
        let status = sys::ggml_backend_graph_compute(backend, graph);
        assert_eq!(status, sys::GGML_STATUS_SUCCESS);
        let mut output = vec![0f32; count(op)];
        let bytes = size_of_val(&output[..]);
        sys::ggml_backend_tensor_get(op, output.as_mut_ptr().cast(), 0, bytes);
        sys::ggml_backend_buffer_free(buffer);
        sys::ggml_backend_free(backend);
        sys::ggml_free(context);
        output
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn it_is_as_near_to_ggmls_as_ggml_rounds_and_the_same_of_all_threads() {
    let (f16, q8_0) = (sys::GGML_TYPE_F16, sys::GGML_TYPE_Q8_0);
    let tokens = |tokens| Shape { tokens, ..SHAPE };
    for shape in [
        SHAPE,
        tokens(5),
        tokens(9),
        tokens(80),
        Shape {
            streams: 3,
            ..SHAPE
        },
        Shape {
            masked: false,
            keys: 301,
            ..tokens(3)
        },
        Shape {
            sinks: true,
            ..tokens(4)
        },
        Shape {
            sinks: true,
            ..tokens(40)
        },
        Shape {
            cache: [q8_0; 2],
            width: 128,
            ..tokens(2)
        },
        Shape {
            cache: [q8_0, f16],
            heads: 16,
            ..tokens(7)
        },
    ] {
        enable(false);
        let ggml = compute(shape, 2);
        enable(true);
        let ours = compute(shape, 2);
        let length = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        let apart: Vec<f32> = ours.iter().zip(&ggml).map(|(a, b)| a - b).collect();
        let what = format!(
            "{:?}, {} tokens of {} streams: {} of {}",
            shape.cache,
            shape.tokens,
            shape.streams,
            length(&apart),
            length(&ggml)
        );
        // ggml rounds queries to what keys are, and a few tokens' sums of values to half precision.
        assert!(length(&apart) < 1e-2 * length(&ggml), "{what}");
        assert!(bits(&ours) != bits(&ggml), "ggml's own: {what}");
        for threads in [1, 3] {
            assert!(bits(&compute(shape, threads)) == bits(&ours), "{what}");
        }
    }
}

#[test]
fn capped_scores_go_ggmls_own_way() {
    let shape = Shape {
        softcap: 20.0,
        ..SHAPE
    };
    enable(false);
    let ggml = compute(shape, 1);
    enable(true);
    assert!(bits(&compute(shape, 1)) == bits(&ggml));
}

#[test]
fn what_is_no_number_in_ggmls_own_way_is_none_here() {
    for tokens in [1, 5, 80] {
        for element in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let shape = Shape {
                tokens,
                element: Some(element),
                ..SHAPE
            };
            enable(false);
            let ggml = compute(shape, 2);
            enable(true);
            let ours = compute(shape, 2);
            let mut both = ours.iter().zip(&ggml);
            assert!(
                both.all(|(ours, ggml)| ours.is_finite() <= ggml.is_finite()),
                "{tokens} tokens, {element}"
            );
            assert!(
                ours.iter().any(|x| x.is_nan()),
                "{tokens} tokens, {element}"
            );
        }
    }
}
