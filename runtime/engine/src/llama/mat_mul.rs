//! What goes into the matrix multiplications of a decode call, for whoever wants to see it.
//!
//! In: ggml's callback before and after each operation. Out: for each multiplication that the
//! observer wants, its weight's name and the rows that it is multiplied with. It must never change
//! what is computed.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

/// Sees the inputs of matrix multiplications, on the thread that calls decode.
pub trait MatMulObserver: Send {
    /// Whether to be shown the inputs of this multiplication; asked before it is computed.
    fn wants(&mut self, mat_mul: &MatMul<'_>) -> bool;

    /// The inputs of a multiplication that was wanted.
    fn observe(&mut self, mat_mul: &MatMul<'_>, inputs: &Inputs<'_>);
}

/// A multiplication of activations with a weight.
#[derive(Clone, Copy, Debug)]
pub struct MatMul<'a> {
    /// The weight's name, such as `blk.0.ffn_down.weight`; another name where the left side is no
    /// weight (attention without flash attention multiplies with the KV cache).
    pub weight: &'a str,
    /// Elements of an input row, and of a row of the weight.
    pub row_elements: usize,
    /// Matrices that the weight is a stack of: experts, heads of MLA, else 1.
    pub matrices: usize,
    /// Whether each token goes to the experts that a router chose (`MUL_MAT_ID`).
    pub routed: bool,
    /// Tokens whose rows go in together.
    pub tokens: usize,
    /// Whether the rows are F32, the only type that [`Inputs`] can show.
    pub is_f32: bool,
}

/// The input rows of one multiplication.
pub struct Inputs<'a> {
    rows: &'a sys::ggml_tensor,
    rows_data: &'a [u8],
    /// The router's choice, `[n_experts_used, n_tokens]`.
    experts: Option<(&'a sys::ggml_tensor, &'a [u8])>,
    /// The weight's third and fourth dimension.
    stack: [usize; 2],
}

impl Inputs<'_> {
    /// Calls `see` with each input row and the index of the matrix that it is multiplied with. A row
    /// that goes to several experts comes once for each of them.
    ///
    /// # Panics
    /// When the rows are not F32.
    pub fn for_each_row(&self, mut see: impl FnMut(usize, &[f32])) {
        assert_eq!(self.rows.type_, sys::GGML_TYPE_F32);
        let mut row = Vec::with_capacity(self.rows.ne[0] as usize);
        let load = |i1: usize, i2: usize, i3: usize, row: &mut Vec<f32>| {
            let at = i1 * self.rows.nb[1] + i2 * self.rows.nb[2] + i3 * self.rows.nb[3];
            let bytes = &self.rows_data[at..at + 4 * self.rows.ne[0] as usize];
            row.clear();
            row.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_ne_bytes(*b)),
            );
        };
        let [_, n1, n2, n3] = self.rows.ne.map(|n| n as usize);
        if let Some((chosen, data)) = self.experts {
            // Rows are [row_elements, 1 or n_experts_used, n_tokens].
            for i in 0..chosen.ne[0] as usize {
                for token in 0..n2 {
                    let at = token * chosen.nb[1] + i * chosen.nb[0];
                    let bytes = [data[at], data[at + 1], data[at + 2], data[at + 3]];
                    load(i % n1, token, 0, &mut row);
                    see(i32::from_ne_bytes(bytes) as usize, &row);
                }
            }
            return;
        }
        for i3 in 0..n3 {
            for i2 in 0..n2 {
                // ggml repeats the weight's stack where the activations have more.
                let matrix = (i3 % self.stack[1]) * self.stack[0] + i2 % self.stack[0];
                for i1 in 0..n1 {
                    load(i1, i2, i3, &mut row);
                    see(matrix, &row);
                }
            }
        }
    }
}

/// Owns an observer at a place that does not move, for ggml to point at.
pub(super) struct Tap(NonNull<Tapped>);

/// An observer and the memory that inputs are copied into.
struct Tapped {
    observer: Box<dyn MatMulObserver>,
    rows: Vec<u8>,
    experts: Vec<u8>,
}

impl Tap {
    pub(super) fn new(observer: Box<dyn MatMulObserver>) -> Self {
        let tapped = Box::new(Tapped {
            observer,
            rows: Vec::new(),
            experts: Vec::new(),
        });
        Self(NonNull::from(Box::leak(tapped)))
    }

    /// The user data of [`on_operation`].
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // SAFETY: leaked from a box by `new`, and freed once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// ggml's eval callback; `data` is [`Tap::as_ptr`]. With `ask` the answer is whether to be called again once
/// `tensor` is computed, without it whether to go on.
pub(super) unsafe extern "C" fn on_operation(
    tensor: *mut sys::ggml_tensor,
    ask: bool,
    data: *mut c_void,
) -> bool {
    // SAFETY: the context that made this callback known keeps the tap alive and in place, uses it
    // for nothing else, and computes on one thread at a time.
    let tap = unsafe { &mut *data.cast::<Tapped>() };
    // SAFETY: ggml passes a node of the graph, which lives and does not change during this call.
    let node = unsafe { &*tensor };
    let routed = match node.op {
        sys::GGML_OP_MUL_MAT => false,
        sys::GGML_OP_MUL_MAT_ID => true,
        _ => return !ask,
    };
    // SAFETY: both operations have these two sources, which live as long as the graph.
    let (weight, rows) = unsafe { (&*node.src[0], &*node.src[1]) };
    // SAFETY: a tensor's name is NUL-terminated within its array.
    let name = unsafe { CStr::from_ptr(weight.name.as_ptr()) };
    let Ok(name) = name.to_str() else {
        return !ask;
    };
    // A weight that was copied to another backend is `BACKEND#name#copy`.
    let name = name.split('#').nth(1).unwrap_or(name);
    let mat_mul = MatMul {
        weight: name,
        row_elements: rows.ne[0] as usize,
        matrices: (weight.ne[2] * weight.ne[3]) as usize,
        routed,
        tokens: rows.ne[if routed { 2 } else { 1 }] as usize,
        is_f32: rows.type_ == sys::GGML_TYPE_F32 && rows.nb[0] == 4,
    };
    if ask {
        return tap.observer.wants(&mat_mul);
    }
    // SAFETY: the sources of a computed node hold data until a later node reuses their place.
    let rows_data = unsafe { copy(rows, &mut tap.rows) };
    let experts = routed.then(|| {
        // SAFETY: this operation has a third source, the router's choice; otherwise as above.
        unsafe {
            let chosen = &*node.src[2];
            (chosen, copy(chosen, &mut tap.experts))
        }
    });
    let inputs = Inputs {
        rows,
        rows_data,
        experts,
        stack: [weight.ne[2] as usize, weight.ne[3] as usize],
    };
    tap.observer.observe(&mat_mul, &inputs);
    true
}

/// The data of `tensor`, wherever its backend keeps it, with the strides it has there.
///
/// # Safety
/// The tensor holds data.
unsafe fn copy<'b>(tensor: &sys::ggml_tensor, buffer: &'b mut Vec<u8>) -> &'b [u8] {
    // SAFETY: `tensor` is a tensor of ggml's; the buffer has the length that is asked for.
    unsafe {
        let len = sys::ggml_nbytes(tensor);
        buffer.resize(len, 0);
        sys::ggml_backend_tensor_get(tensor, buffer.as_mut_ptr().cast(), 0, len);
    }
    buffer
}
