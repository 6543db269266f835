//! What the C++ side of the hook calls of attention, from ggml's own threads.

use std::ffi::c_void;

use super::Attention;
use super::plan::Plan;
use crate::hook::{self, ggml_barrier, ggml_threadpool_chunk_add, ggml_threadpool_chunk_set};
use crate::simd::Simd;

/// How it is to be computed, if the kernels are to. Looks at types and sizes only.
fn accepted(attention: &Attention) -> Option<Plan<'_>> {
    hook::enabled().then(|| Plan::new(attention, Simd::best()?))?
}

/// Bytes of work buffer for `nth` threads; 0 declines.
#[unsafe(no_mangle)]
extern "C" fn cloister_kernels_attention_work_size(attention: &Attention, nth: i32) -> usize {
    accepted(attention).map_or(0, |plan| plan.work_bytes(nth as usize))
}

/// Thread `ith` of `nth`, all of which call this with the same attention.
///
/// # Safety
/// The attention's pointers and sizes are those of live tensors; `work` has the bytes that
/// [`cloister_kernels_attention_work_size`] asked for, aligned to 4; `threadpool` is the one that these threads are of.
#[unsafe(no_mangle)]
unsafe extern "C" fn cloister_kernels_attend(
    attention: &Attention,
    work: *mut c_void,
    ith: i32,
    nth: i32,
    threadpool: *mut c_void,
) {
    let Some(plan) = accepted(attention) else {
        return;
    };
    let (work, thread, threads) = (work.cast(), ith as usize, nth as usize);
    // SAFETY: the threadpool lives, and every thread comes to its barriers. Each task is taken by one thread, and each begins
    // with the one of its own number.
    unsafe {
        if ith == 0 {
            ggml_threadpool_chunk_set(threadpool, nth);
        }
        ggml_barrier(threadpool);
        let mut task = thread;
        while task < plan.tasks() {
            plan.compute(task, work, threads, thread);
            task = ggml_threadpool_chunk_add(threadpool, 1) as usize;
        }
        if plan.split {
            ggml_barrier(threadpool);
            plan.finish(work, threads, thread);
        }
    }
}
