//! A graph of ggml's, timed with the kernels and ggml's own way in turn.
//!
//! In: the options that such examples have in common, and what puts operations into a graph. Out: times.

use std::ptr::null_mut;
use std::time::Instant;

use cloister_kernels::enable;
use cloister_kernels::product::choose;
use llama_cpp_sys_2 as sys;

const ROUNDS: usize = 5;

/// The threads that compute.
pub struct Threads {
    pool: sys::ggml_threadpool_t,
    count: i32,
}

impl Threads {
    /// As many as the first option says, two without one, with the instruction set that `SIMD` names.
    pub fn wanted(option: Option<&String>) -> Self {
        let count = option.map_or(2, |n| {
            n.parse()
                .expect("the first argument is a number of threads")
        });
        if let Ok(name) = std::env::var("SIMD") {
            assert!(choose(&name), "this CPU has no {name}");
        }
        // SAFETY: the parameters live for the call.
        let pool = unsafe {
            let mut params = sys::ggml_threadpool_params_default(count);
            sys::ggml_threadpool_new(&mut params)
        };
        Self { pool, count }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // SAFETY: graphs borrow the threads, so nothing computes on them any more.
        unsafe { sys::ggml_threadpool_free(self.pool) };
    }
}

/// A graph, and the tensors that it computes with.
pub struct Graph<'a> {
    context: *mut sys::ggml_context,
    backend: sys::ggml_backend_t,
    buffer: sys::ggml_backend_buffer_t,
    graph: *mut sys::ggml_cgraph,
    _threads: &'a Threads,
}

impl<'a> Graph<'a> {
    /// Of up to `tensors` tensors: `describe` puts operations into the graph, and gives what each of their inputs holds.
    pub fn new<const N: usize>(
        threads: &'a Threads,
        tensors: usize,
        describe: impl FnOnce(
            *mut sys::ggml_context,
            *mut sys::ggml_cgraph,
        ) -> [(Vec<*mut sys::ggml_tensor>, Vec<u8>); N],
    ) -> Self {
        let parameters = sys::ggml_init_params {
            mem_size: 1024 * tensors + (1 << 20),
            mem_buffer: null_mut(),
            no_alloc: true,
        };
        // SAFETY: the tensors have the sizes of what is copied to them; all is freed after its last use.
        unsafe {
            let context = sys::ggml_init(parameters);
            let backend = sys::ggml_backend_cpu_init();
            sys::ggml_backend_cpu_set_n_threads(backend, threads.count);
            sys::ggml_backend_cpu_set_threadpool(backend, threads.pool);
            let graph = sys::ggml_new_graph_custom(context, tensors, false);
            let inputs = describe(context, graph);
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
            assert!(!buffer.is_null(), "there is memory for the tensors");
            for (tensors, bytes) in &inputs {
                for &tensor in tensors {
                    assert_eq!(sys::ggml_nbytes(tensor), bytes.len());
                    sys::ggml_backend_tensor_set(tensor, bytes.as_ptr().cast(), 0, bytes.len());
                }
            }
            Self {
                context,
                backend,
                buffer,
                graph,
                _threads: threads,
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

    /// How many times faster the kernels are, and their seconds: medians of several rounds.
    pub fn compare(&self) -> [f64; 2] {
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

impl Drop for Graph<'_> {
    fn drop(&mut self) {
        // SAFETY: each is freed once, after what uses it.
        unsafe {
            sys::ggml_backend_buffer_free(self.buffer);
            sys::ggml_backend_free(self.backend);
            sys::ggml_free(self.context);
        }
    }
}

/// Floats from -1 to 1, as bytes.
pub fn floats(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0).to_le_bytes())
        .collect()
}
