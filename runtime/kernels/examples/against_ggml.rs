//! `against_ggml [THREADS [TYPE…]]`: products of several shapes, timed with the kernels and ggml's own way in turn, weights
//! from memory. Prints how many times faster the kernels are, or that a shape is ggml's, as one below 1 should be. With `SIMD=Avx2`
//! or another instruction set that the kernels know, they use this one.

use std::ptr::null_mut;
use std::time::Instant;

use cloister_kernels::product::{choose, takes};
use cloister_kernels::{WeightType, enable};
use llama_cpp_sys_2 as sys;

/// Weights of a row, and rows: a small model's keys, its projections, and what goes up and down; and a large one's.
const SHAPES: [(usize, usize); 6] = [
    (1024, 128),
    (1024, 1024),
    (1024, 4864),
    (4864, 1024),
    (3584, 512),
    (3584, 3584),
];
const COLUMNS: [usize; 7] = [1, 2, 4, 8, 16, 64, 128];
/// Bytes of weights that are multiplied one after the other: more than caches hold.
const BYTES: usize = 48 << 20;
const ROUNDS: usize = 5;

/// Products of one shape, as many as have [`BYTES`] of weights; of many columns fewer.
struct Products {
    context: *mut sys::ggml_context,
    backend: sys::ggml_backend_t,
    buffer: sys::ggml_backend_buffer_t,
    graph: *mut sys::ggml_cgraph,
}

impl Products {
    fn new(
        weight_type: WeightType,
        (k, rows): (usize, usize),
        columns: usize,
        threadpool: sys::ggml_threadpool_t,
        threads: i32,
    ) -> Self {
        let bytes = weight_type.row_bytes(k) * rows;
        let count = (BYTES / bytes / columns.div_ceil(16)).max(2);
        let parameters = sys::ggml_init_params {
            mem_size: 4096 * count + (1 << 20),
            mem_buffer: null_mut(),
            no_alloc: true,
        };
        // SAFETY: the tensors have the sizes of what is copied to them; all is freed after its last use.
        unsafe {
            let context = sys::ggml_init(parameters);
            let backend = sys::ggml_backend_cpu_init();
            sys::ggml_backend_cpu_set_n_threads(backend, threads);
            sys::ggml_backend_cpu_set_threadpool(backend, threadpool);
            let number = weight_type.ggml_type();
            let tensor =
                |number, a, b| sys::ggml_new_tensor_2d(context, number, a as i64, b as i64);
            let input = tensor(sys::GGML_TYPE_F32, k, columns);
            let weights: Vec<_> = (0..count).map(|_| tensor(number, k, rows)).collect();
            let graph = sys::ggml_new_graph_custom(context, 2 * count + 8, false);
            for weights in &weights {
                let product = sys::ggml_mul_mat(context, *weights, input);
                sys::ggml_build_forward_expand(graph, product);
            }
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
            assert!(!buffer.is_null(), "there is memory for the tensors");
            let floats: Vec<f32> = (0..k * columns)
                .map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0)
                .collect();
            sys::ggml_backend_tensor_set(input, floats.as_ptr().cast(), 0, k * columns * 4);
            // Noise that is no infinite scale.
            let packed: Vec<u8> = (0..bytes).map(|i| (i * 7919 % 61) as u8).collect();
            for weights in weights {
                sys::ggml_backend_tensor_set(weights, packed.as_ptr().cast(), 0, bytes);
            }
            Self {
                context,
                backend,
                buffer,
                graph,
            }
        }
    }

    fn seconds(&self, kernels: bool) -> f64 {
        enable(kernels);
        let begin = Instant::now();
        // SAFETY: the graph and its tensors live.
        let status = unsafe { sys::ggml_backend_graph_compute(self.backend, self.graph) };
        assert_eq!(status, sys::GGML_STATUS_SUCCESS);
        begin.elapsed().as_secs_f64()
    }

    /// How many times faster the kernels are: the median of several rounds.
    fn ratio(&self) -> f64 {
        self.seconds(false);
        self.seconds(true);
        let mut ratios: Vec<f64> = (0..ROUNDS)
            .map(|_| self.seconds(false) / self.seconds(true))
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ROUNDS / 2]
    }
}

impl Drop for Products {
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
    let named = |t: &WeightType| arguments.len() < 2 || arguments[1..].contains(&format!("{t:?}"));
    if let Ok(name) = std::env::var("SIMD") {
        assert!(choose(&name), "this CPU has no {name}");
    }
    // SAFETY: the parameters live for the call.
    let threadpool = unsafe {
        let mut params = sys::ggml_threadpool_params_default(threads);
        sys::ggml_threadpool_new(&mut params)
    };
    print!("| type | weights of a row, rows |");
    for columns in COLUMNS {
        print!(" {columns} |");
    }
    print!("\n| --- | --- |{}", " --- |".repeat(COLUMNS.len()));
    for weight_type in WeightType::ALL.iter().copied().filter(named) {
        for shape in SHAPES {
            print!("\n| {weight_type:?} | {}, {} |", shape.0, shape.1);
            for columns in COLUMNS {
                if !takes(weight_type, columns) {
                    print!(" ggml |");
                    continue;
                }
                let products = Products::new(weight_type, shape, columns, threadpool, threads);
                print!(" {:.2} |", products.ratio());
            }
        }
    }
    println!();
    // SAFETY: nothing computes on it any more.
    unsafe { sys::ggml_threadpool_free(threadpool) };
}
