//! What the C++ side of the hook calls, from ggml's own threads.

use std::ffi::c_void;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2 as sys;

use crate::WeightType;
use crate::activation::Layout;
use crate::panel::Panel;
use crate::simd::Simd;

/// One product: `rows` rows of `k` weights with `columns` columns of `k` floats, giving `columns` columns of
/// `rows` floats. Strides are in bytes, from a row or column to the next.
#[repr(C)]
pub(crate) struct Product {
    weight_type: i32,
    k: u64,
    rows: u64,
    columns: u64,
    weights: *const u8,
    weights_stride: u64,
    input: *const u8,
    input_stride: u64,
    output: *mut u8,
    output_stride: u64,
}

unsafe extern "C" {
    fn cloister_kernels_enter();
    fn ggml_barrier(threadpool: *mut c_void);
    fn ggml_threadpool_chunk_set(threadpool: *mut c_void, value: i32);
    fn ggml_threadpool_chunk_add(threadpool: *mut c_void, value: i32) -> i32;
}

static ENABLED: AtomicBool = AtomicBool::new(false);

/// As [`crate::enable`].
pub(crate) fn enable(enabled: bool) {
    static ENTERED: Once = Once::new();
    if enabled {
        // SAFETY: it happens once.
        ENTERED.call_once(|| unsafe { cloister_kernels_enter() });
    }
    ENABLED.store(enabled, Ordering::Relaxed);
}

pub(crate) fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Type and instruction set, if the kernels are to compute this product. Looks at the type and the sizes only.
fn accepted(product: &Product) -> Option<(WeightType, Simd)> {
    let weight_type = WeightType::from_ggml(product.weight_type as sys::ggml_type)?;
    let simd = Simd::best()?;
    enabled().then_some((weight_type, simd))
}

#[unsafe(no_mangle)]
extern "C" fn cloister_kernels_work_size(product: &Product) -> usize {
    accepted(product).map_or(0, |(weight_type, simd)| {
        layout(simd, weight_type, product).column_bytes() * product.columns as usize
    })
}

fn layout(simd: Simd, weight_type: WeightType, product: &Product) -> Layout {
    Layout::new(
        simd,
        weight_type,
        product.k as usize,
        product.columns as usize,
    )
}

/// Thread `ith` of `nth`, all of which call this with the same product.
///
/// # Safety
/// The product's pointers and sizes are those of live tensors; `work` has the bytes that
/// [`cloister_kernels_work_size`] asked for; `threadpool` is the one that these threads are of.
#[unsafe(no_mangle)]
unsafe extern "C" fn cloister_kernels_compute(
    product: &Product,
    work: *mut u8,
    ith: i32,
    nth: i32,
    threadpool: *mut c_void,
) {
    let Some((weight_type, simd)) = accepted(product) else {
        return;
    };
    let layout = layout(simd, weight_type, product);
    let (columns, rows) = (product.columns as usize, product.rows as usize);

    // Each thread quantizes its share of every column's blocks.
    let blocks = layout.k / layout.block_len;
    let share = |i: i32| blocks * i as usize / nth as usize;
    for column in 0..columns {
        let input = product
            .input
            .wrapping_add(column * product.input_stride as usize);
        // SAFETY: tensor and work buffer have this column; shares do not overlap.
        unsafe {
            layout.quantize(input.cast(), work, column, share(ith)..share(ith + 1));
        }
    }
    if ith == 0 {
        // SAFETY: the threadpool lives. Each thread begins with the panel of its own number.
        unsafe { ggml_threadpool_chunk_set(threadpool, nth) };
    }
    // SAFETY: every thread comes here.
    unsafe { ggml_barrier(threadpool) };

    let panel_rows = simd.panel_rows(rows, weight_type.row_bytes(layout.k), columns, nth as usize);
    let mut next = ith as usize;
    while next * panel_rows < rows {
        let first = next * panel_rows;
        let panel = Panel {
            weights: product
                .weights
                .wrapping_add(first * product.weights_stride as usize),
            weights_stride: product.weights_stride as usize,
            rows: panel_rows.min(rows - first),
            columns: work,
            n_columns: columns,
            layout,
            output: product.output.cast::<f32>().wrapping_add(first),
            output_stride: product.output_stride as usize,
        };
        // SAFETY: `accepted` looked at the CPU; each panel is taken by one thread.
        unsafe {
            simd.multiply(weight_type, &panel);
            next = ggml_threadpool_chunk_add(threadpool, 1) as usize;
        }
    }
}
