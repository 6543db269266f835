//! What the C++ side of the hook calls, from ggml's own threads.

use std::ffi::c_void;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2 as sys;

use crate::WeightType;
use crate::activation::Layout;
use crate::experts::{Experts, Groups};
use crate::panel::Panel;
use crate::panels::Panels;
use crate::simd::Kernel;

/// One product: `rows` rows of `k` weights with `columns` columns of `k` floats, giving `columns` columns of
/// `rows` floats; or, of each expert's rows, with the columns that go to it. Strides are in bytes, from a row or
/// column to the next.
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
    experts: Experts,
}

unsafe extern "C" {
    fn cloister_kernels_enter();
    pub(crate) fn ggml_barrier(threadpool: *mut c_void);
    pub(crate) fn ggml_threadpool_chunk_set(threadpool: *mut c_void, value: i32);
    pub(crate) fn ggml_threadpool_chunk_add(threadpool: *mut c_void, value: i32) -> i32;
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

/// Type and kernel, if the kernels are to compute this product. Looks at the type and the sizes only.
fn accepted(product: &Product) -> Option<(WeightType, Kernel)> {
    let weight_type = WeightType::from_ggml(product.weight_type as sys::ggml_type)?;
    let kernel = weight_type.kernel()?;
    let columns = product.experts.columns_of_each(product.columns as usize);
    let ours = kernel.columns.contains(&columns) || product.experts.few_tokens();
    (enabled() && ours).then_some((weight_type, kernel))
}

#[unsafe(no_mangle)]
extern "C" fn cloister_kernels_work_size(product: &Product) -> usize {
    accepted(product).map_or(0, |(weight_type, kernel)| {
        columns_bytes(layout(&kernel, weight_type, product), product)
            + product.experts.groups_bytes()
    })
}

fn layout(kernel: &Kernel, weight_type: WeightType, product: &Product) -> Layout {
    // Columns that are picked for experts have to lie alone.
    let together = if product.experts.count == 0 {
        product.columns as usize
    } else {
        0
    };
    Layout::new(kernel, weight_type, product.k as usize, together)
}

/// Bytes of the quantized columns; what is kept of the experts comes after them.
fn columns_bytes(layout: Layout, product: &Product) -> usize {
    layout.bytes(product.columns as usize).next_multiple_of(8)
}

/// Thread `ith` of `nth`, all of which call this with the same product.
///
/// # Safety
/// The product's pointers and sizes are those of live tensors; `work` has the bytes that
/// [`cloister_kernels_work_size`] asked for, and is aligned to 8; `threadpool` is the one that these threads are of.
#[unsafe(no_mangle)]
unsafe extern "C" fn cloister_kernels_compute(
    product: &Product,
    work: *mut u8,
    ith: i32,
    nth: i32,
    threadpool: *mut c_void,
) {
    let Some((weight_type, kernel)) = accepted(product) else {
        return;
    };
    let layout = layout(&kernel, weight_type, product);
    let experts = &product.experts;
    let mut whole = Panel {
        weights: product.weights,
        weights_stride: product.weights_stride as usize,
        rows: product.rows as usize,
        columns: work,
        n_columns: product.columns as usize,
        layout,
        output: product.output.cast(),
        output_stride: product.output_stride as usize,
        picks: std::ptr::null(),
        next: std::ptr::null(),
    };
    let mut queue = Queue {
        kernel,
        row_bytes: weight_type.row_bytes(layout.k),
        threadpool,
        nth: nth as usize,
        next: ith as usize,
        passed: 0,
    };
    if experts.count == 0 {
        queue.ask_for_first(&whole);
    }

    // Each thread quantizes its share of every column's blocks.
    let blocks = layout.k / layout.block_len;
    let share = |i: i32| blocks * i as usize / nth as usize;
    for column in 0..product.columns as usize {
        let place = experts.input(column, product.input_stride as usize);
        let input = product.input.wrapping_add(place);
        // SAFETY: tensor and work buffer have this column; shares do not overlap.
        unsafe {
            layout.quantize(input.cast(), work, column, share(ith)..share(ith + 1));
        }
    }
    let tables = work.wrapping_add(columns_bytes(layout, product));
    if ith == 0 {
        // SAFETY: the threadpool lives. Each thread begins with the panel of its own number. The tables are behind
        // the columns, and nobody reads them before the barrier.
        unsafe {
            ggml_threadpool_chunk_set(threadpool, nth);
            experts.group(tables, product.output_stride as usize);
        }
    }
    // SAFETY: every thread comes here.
    unsafe { ggml_barrier(threadpool) };

    if experts.count == 0 {
        // SAFETY: `accepted` looked at the CPU; the tensors are as the product says.
        unsafe { queue.compute(&whole) };
        return;
    }
    // SAFETY: they were made before the barrier.
    let groups = unsafe { Groups::read(experts, tables) };
    for expert in 0..experts.count as usize {
        let picks = groups.picks(expert);
        whole.weights = product
            .weights
            .wrapping_add(expert * experts.stride as usize);
        whole.n_columns = picks.len();
        whole.picks = picks.as_ptr();
        // SAFETY: as above; the tensor has these weights for each expert.
        unsafe { queue.compute(&whole) };
    }
}

/// One thread's way through the panels of a product, all of which are numbered in order.
struct Queue {
    kernel: Kernel,
    row_bytes: usize,
    threadpool: *mut c_void,
    nth: usize,
    /// The number of the panel that this thread computes next.
    next: usize,
    /// Panels of those that have been passed to [`Queue::compute`].
    passed: usize,
}

impl Queue {
    fn panels(&self, whole: &Panel) -> Panels {
        let simd = self.kernel.simd;
        let sizes = simd.panel_rows(self.row_bytes, whole.n_columns);
        Panels::new(whole.rows, self.nth, sizes)
    }

    /// Asks memory for the first rows of the panel that this thread begins with.
    fn ask_for_first(&self, whole: &Panel) {
        if let Some(rows) = self.panels(whole).rows_of(self.next) {
            self.kernel.simd.ask_for_first(whole.row(rows.start), whole);
        }
    }

    /// Computes this thread's panels of `whole`.
    ///
    /// # Safety
    /// The CPU has what the kernel needs, and `whole` keeps a panel's promises; all threads pass the same, in the same
    /// order.
    unsafe fn compute(&mut self, whole: &Panel) {
        if whole.n_columns == 0 {
            return;
        }
        let mut panels = self.panels(whole);
        let mut mine = panels.rows_of(self.next - self.passed);
        while let Some(rows) = mine {
            // The next one is taken before this one is computed, so that it can be asked for meanwhile.
            // SAFETY: the threadpool lives.
            self.next = unsafe { ggml_threadpool_chunk_add(self.threadpool, 1) } as usize;
            mine = panels.rows_of(self.next - self.passed);
            let next = mine.as_ref().map(|next| whole.row(next.start));
            let panel = Panel {
                weights: whole.row(rows.start),
                rows: rows.len(),
                output: whole.output.wrapping_add(rows.start),
                next: next.unwrap_or(std::ptr::null()),
                ..*whole
            };
            // SAFETY: by the caller's word; each panel is taken by one thread.
            unsafe { (self.kernel.multiply)(&panel) };
        }
        self.passed += panels.count();
    }
}
