//! `attention [THREADS [f16|q8_0 [KEYS…]]]`: attention of several models' shapes, timed with the kernels and ggml's own way in
//! turn, caches from memory. Prints how many times faster the kernels are, and for one token the time that they take. With
//! `SIMD=Avx2` or another instruction set that the kernels know, they use this one.

use std::ptr::null_mut;
use std::time::Instant;

use cloister_kernels::enable;
use cloister_kernels::product::choose;
use llama_cpp_sys_2 as sys;

/// Heads, those of the cache, and their width: SmolLM2-135M, Qwen2.5-0.5B, R1-Distill-Qwen-7B, Llama-3.1-8B, and Llama-2-7B,
/// where no two share.
const SHAPES: [[i64; 3]; 5] = [
    [9, 3, 64],
    [14, 2, 64],
    [28, 4, 128],
    [32, 8, 128],
    [32, 32, 128],
];
/// Tokens of a stream, and streams: drafts and prompts, then several clients.
const BATCHES: [[i64; 2]; 11] = [
    [1, 1],
    [2, 1],
    [4, 1],
    [8, 1],
    [16, 1],
    [32, 1],
    [64, 1],
    [256, 1],
    [1, 2],
    [1, 4],
    [1, 8],
];
/// Bytes of caches that are gone through one after the other: more than caches of the CPU hold.
const BYTES: i64 = 64 << 20;
const ROUNDS: usize = 5;

/// Attention of several layers.
struct Layers {
    context: *mut sys::ggml_context,
    backend: sys::ggml_backend_t,
    buffer: sys::ggml_backend_buffer_t,
    graph: *mut sys::ggml_cgraph,
    count: i64,
}

impl Layers {
    fn new(
        cache_type: sys::ggml_type,
        [heads, kv_heads, width]: [i64; 3],
        [tokens, streams]: [i64; 2],
        keys: i64,
        threadpool: sys::ggml_threadpool_t,
        threads: i32,
    ) -> Self {
        // SAFETY: the tensors have the sizes of what is copied to them; all is freed after its last use.
        unsafe {
            let row = sys::ggml_row_size(cache_type, width) as i64;
            let bytes = 2 * row * kv_heads * keys * streams;
            let count = (BYTES / bytes / tokens).clamp(1, 64);
            let parameters = sys::ggml_init_params {
                mem_size: 16384 * count as usize + (1 << 20),
                mem_buffer: null_mut(),
                no_alloc: true,
            };
            let context = sys::ggml_init(parameters);
            let backend = sys::ggml_backend_cpu_init();
            sys::ggml_backend_cpu_set_n_threads(backend, threads);
            sys::ggml_backend_cpu_set_threadpool(backend, threadpool);
            let tensor =
                |number, a, b, c| sys::ggml_new_tensor_4d(context, number, a, b, c, streams);
            let in_order = |tensor| sys::ggml_permute(context, tensor, 0, 2, 1, 3);
            let q = tensor(sys::GGML_TYPE_F32, width, heads, tokens);
            let mask = tensor(sys::GGML_TYPE_F16, keys, tokens, 1);
            let graph = sys::ggml_new_graph_custom(context, 8 * count as usize + 8, false);
            let mut caches = Vec::new();
            for _ in 0..count {
                let [k, v] = [(); 2].map(|()| tensor(cache_type, width, kv_heads, keys));
                let scale = 1.0 / (width as f32).sqrt();
                let [q, k_rows, v_rows] = [q, k, v].map(in_order);
                let op =
                    sys::ggml_flash_attn_ext(context, q, k_rows, v_rows, mask, scale, 0.0, 0.0);
                sys::ggml_build_forward_expand(graph, op);
                caches.extend([k, v]);
            }
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
            assert!(!buffer.is_null(), "there is memory for the tensors");
            let set = |tensor: *mut sys::ggml_tensor, bytes: &[u8]| {
                assert_eq!(sys::ggml_nbytes(tensor), bytes.len());
                sys::ggml_backend_tensor_set(tensor, bytes.as_ptr().cast(), 0, bytes.len());
            };
            let floats: Vec<u8> = (0..width * heads * tokens * streams)
                .flat_map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0).to_le_bytes())
                .collect();
            set(q, &floats);
            // Each token sees itself and what came before.
            let sees = |i: i64| i % keys <= keys - tokens + i / keys % tokens;
            let masks: Vec<u8> = (0..keys * tokens * streams)
                .flat_map(|i| if sees(i) { [0, 0] } else { [0, 0xfc] })
                .collect();
            set(mask, &masks);
            // Noise with small scales, which as numbers of half precision are small, too.
            let noise: Vec<u8> = (0..row * kv_heads * keys * streams)
                .map(|i| (i * 7919 % 53) as u8)
                .collect();
            for cache in caches {
                set(cache, &noise);
            }
            Self {
                context,
                backend,
                buffer,
                graph,
                count,
            }
        }
    }

    /// Of one layer.
    fn seconds(&self, kernels: bool) -> f64 {
        enable(kernels);
        let begin = Instant::now();
        // SAFETY: the graph and its tensors live.
        let status = unsafe { sys::ggml_backend_graph_compute(self.backend, self.graph) };
        assert_eq!(status, sys::GGML_STATUS_SUCCESS);
        begin.elapsed().as_secs_f64() / self.count as f64
    }

    /// How many times faster the kernels are, and their time: medians of several rounds.
    fn compare(&self) -> [f64; 2] {
        self.seconds(false);
        self.seconds(true);
        let rounds: Vec<[f64; 2]> = (0..ROUNDS)
            .map(|_| {
                let ours = self.seconds(true);
                [self.seconds(false) / ours, ours]
            })
            .collect();
        [0, 1].map(|which| {
            let mut sorted: Vec<f64> = rounds.iter().map(|round| round[which]).collect();
            sorted.sort_by(f64::total_cmp);
            sorted[ROUNDS / 2]
        })
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // SAFETY: each is freed once, after what uses it.
        unsafe {
            sys::ggml_backend_buffer_free(self.buffer);
            sys::ggml_backend_free(self.backend);
            sys::ggml_free(self.context);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads: i32 = arguments.first().map_or(2, |n| {
        n.parse()
            .expect("the first argument is a number of threads")
    });
    let cache_type = match arguments.get(1).map(String::as_str) {
        Some("q8_0") => sys::GGML_TYPE_Q8_0,
        _ => sys::GGML_TYPE_F16,
    };
    let mut keys: Vec<i64> = arguments
        .iter()
        .skip(2)
        .map(|n| n.parse().expect("numbers of keys"))
        .collect();
    if keys.is_empty() {
        keys = vec![256, 1024, 4096, 16384];
    }
    if let Ok(name) = std::env::var("SIMD") {
        assert!(choose(&name), "this CPU has no {name}");
    }
    // SAFETY: the parameters live for the call.
    let threadpool = unsafe {
        let mut params = sys::ggml_threadpool_params_default(threads);
        sys::ggml_threadpool_new(&mut params)
    };
    print!("| heads, of the cache, width | keys |");
    for [tokens, streams] in BATCHES {
        print!(
            " {tokens}{} |",
            if streams == 1 {
                String::new()
            } else {
                format!(" of {streams} streams")
            }
        );
    }
    print!(
        " µs |\n| --- | --- |{} --- |",
        " --- |".repeat(BATCHES.len())
    );
    for shape in SHAPES {
        for &keys in &keys {
            print!("\n| {}, {}, {} | {keys} |", shape[0], shape[1], shape[2]);
            let mut micros = 0.0;
            for batch in BATCHES {
                if batch[0] * keys > 1 << 18 || batch[1] * keys > 1 << 15 {
                    print!(" |");
                    continue;
                }
                let layers = Layers::new(cache_type, shape, batch, keys, threadpool, threads);
                let [ratio, seconds] = layers.compare();
                print!(" {ratio:.2} |");
                if batch == [1, 1] {
                    micros = seconds * 1e6;
                }
            }
            print!(" {micros:.0} |");
        }
    }
    println!();
    // SAFETY: nothing computes on it any more.
    unsafe { sys::ggml_threadpool_free(threadpool) };
}
