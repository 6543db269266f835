//! A context: the KV cache of all sequences and the compute buffers. One thread owns it.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llama_cpp_sys_2 as sys;

use super::mat_mul::{MatMulObserver, Tap, on_operation};
use super::threads::Threads;
use super::{Batch, Model, Pos, SeqId};

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// 16-bit floats.
    #[default]
    F16,
    /// 8-bit blocks of 32 with a scale: about half the memory.
    Q8_0,
}

/// What a context is made with.
#[derive(Clone, Copy, Debug)]
pub struct ContextParams {
    /// Tokens that each sequence can hold.
    pub n_ctx_seq: u32,
    /// Number of sequences.
    pub n_seq: u32,
    /// Most tokens in one decode call.
    pub n_batch: u32,
    /// Threads for every operation.
    pub n_threads: usize,
    /// Element type of the KV cache.
    pub kv_type: KvType,
}

/// What is wanted of a decode call.
#[derive(Clone, Copy)]
enum Outputs {
    /// The logits of at most so many tokens.
    Logits(u32),
    /// One vector of each sequence.
    Embeddings,
}

/// Why a decode call gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The abort callback said so. Sequences may hold part of the batch and must be repaired.
    Aborted,
    /// llama.cpp's return code.
    Failed(i32),
}

type Abort = Box<dyn Fn() -> bool + Send>;

/// The KV cache and compute buffers of one model.
pub struct Context {
    raw: NonNull<sys::llama_context>,
    // Dropped after `Drop::drop`, which frees the context that computes on them.
    threads: Arc<Threads>,
    // Boxed twice so that llama.cpp can hold a thin pointer to it.
    abort: Option<Box<Abort>>,
    // Dropped after `Drop::drop`, which frees the context that points at it.
    _tap: Option<Tap>,
    /// Tokens of the last decode call that asked for logits and have them.
    n_outputs: usize,
    model: Arc<Model>,
}

// SAFETY: a context may be used from any one thread at a time; `&mut self` ensures that.
unsafe impl Send for Context {}

impl Context {
    /// Allocates the KV cache and the compute buffers. `None` when that fails, for want of memory as
    /// a rule; the reason is then in [`super::first_error`].
    pub fn new(model: Arc<Model>, params: ContextParams) -> Option<Self> {
        Self::with_observer(model, params, None)
    }

    /// A context that makes one vector of each sequence, as the model's file says: see [`Context::embedding`].
    pub fn for_embeddings(model: Arc<Model>, params: ContextParams) -> Option<Self> {
        Self::make(model, params, Outputs::Embeddings, None)
    }

    /// As [`Context::new`], for decode calls in which at most `n_outputs` tokens ask for their logits: with buffers
    /// for no more than these.
    pub fn for_slots(model: Arc<Model>, params: ContextParams, n_outputs: u32) -> Option<Self> {
        let n_outputs = n_outputs.min(params.n_batch);
        Self::make(model, params, Outputs::Logits(n_outputs), None)
    }

    /// As [`Context::new`]; `observer` sees what goes into each matrix multiplication.
    pub fn with_observer(
        model: Arc<Model>,
        params: ContextParams,
        observer: Option<Box<dyn MatMulObserver>>,
    ) -> Option<Self> {
        Self::make(model, params, Outputs::Logits(params.n_batch), observer)
    }

    fn make(
        model: Arc<Model>,
        params: ContextParams,
        outputs: Outputs,
        observer: Option<Box<dyn MatMulObserver>>,
    ) -> Option<Self> {
        let kv = match params.kv_type {
            KvType::F16 => sys::GGML_TYPE_F16,
            KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        };
        super::log::forget_errors();
        let tap = observer.map(Tap::new);
        let threads = Threads::of(params.n_threads)?;
        // SAFETY: model and tap outlive the context, which holds them; the params are llama.cpp's own.
        unsafe {
            let mut raw = sys::llama_context_default_params();
            if let Some(tap) = &tap {
                raw.cb_eval = Some(on_operation);
                raw.cb_eval_user_data = tap.as_ptr();
            }
            raw.n_ctx = params.n_ctx_seq.checked_mul(params.n_seq)?;
            raw.n_seq_max = params.n_seq;
            raw.n_batch = params.n_batch;
            match outputs {
                Outputs::Logits(n) => {
                    raw.n_ubatch = params.n_batch.min(512);
                    raw.n_outputs_max = n;
                }
                // A vector is made of the tokens that are computed together.
                Outputs::Embeddings => {
                    raw.n_ubatch = params.n_batch;
                    raw.embeddings = true;
                }
            }
            raw.n_threads = params.n_threads as i32;
            raw.n_threads_batch = params.n_threads as i32;
            raw.type_k = kv;
            raw.type_v = kv;
            // Each sequence has its own part of the cache: a long one does not slow the others.
            raw.kv_unified = false;
            raw.no_perf = true;
            let raw = NonNull::new(sys::llama_init_from_model(model.as_ptr(), raw))?;
            sys::llama_attach_threadpool(raw.as_ptr(), threads.as_ptr(), std::ptr::null_mut());
            Some(Self {
                raw,
                threads,
                abort: None,
                _tap: tap,
                n_outputs: 0,
                model,
            })
        }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    /// Its model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens that each sequence can hold.
    pub fn n_ctx_seq(&self) -> u32 {
        // SAFETY: the context lives.
        unsafe { sys::llama_n_ctx_seq(self.as_ptr()) }
    }

    /// Most tokens in one decode call.
    pub fn n_batch(&self) -> u32 {
        // SAFETY: the context lives.
        unsafe { sys::llama_n_batch(self.as_ptr()) }
    }

    /// Threads that compute, at most those that it was made with.
    pub fn set_threads(&mut self, n: usize) {
        // SAFETY: the context lives; llama.cpp holds the number to that of its threads.
        unsafe { sys::llama_set_n_threads(self.as_ptr(), n as i32, n as i32) };
    }

    /// Threads that compute.
    pub fn n_threads(&self) -> usize {
        // SAFETY: the context lives.
        unsafe { sys::llama_n_threads(self.as_ptr()) as usize }
    }

    /// Asks `abort` between the operations of a decode call whether to give it up.
    pub fn set_abort(&mut self, abort: impl Fn() -> bool + Send + 'static) {
        let abort: Box<Abort> = Box::new(Box::new(abort));
        // SAFETY: the closure's address is stable in its box, which lives as long as the context.
        unsafe {
            sys::llama_set_abort_callback(
                self.as_ptr(),
                Some(call_abort),
                std::ptr::from_ref::<Abort>(&abort).cast_mut().cast(),
            );
        }
        self.abort = Some(abort);
    }

    /// Computes `batch` when no other context computes: fills the KV cache, and the logits of the tokens that asked
    /// for them. Gives how long it took, without the wait before it.
    pub fn decode(&mut self, batch: &Batch) -> Result<Duration, DecodeError> {
        self.n_outputs = 0;
        let _turn = self.threads.turn();
        let begin = Instant::now();
        // SAFETY: context and batch live; the batch's arrays hold `n_tokens` entries.
        match unsafe { sys::llama_decode(self.as_ptr(), batch.raw()) } {
            0 => {
                // SAFETY: the context lives.
                unsafe { sys::llama_synchronize(self.as_ptr()) };
                self.n_outputs = batch.n_outputs();
                Ok(begin.elapsed())
            }
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Failed(code)),
        }
    }

    /// Whether the next decode calls make vectors, where the context was made for it.
    pub fn set_embeddings(&mut self, on: bool) {
        // SAFETY: the context lives.
        unsafe { sys::llama_set_embeddings(self.as_ptr(), on) };
    }

    /// The vector of `seq` that the last decode call made, `[n_embd]`. None when it made none.
    pub fn embedding(&mut self, seq: SeqId) -> Option<&[f32]> {
        // SAFETY: the context lives, and the vector until the next decode call, which takes `&mut self`; it has as
        // many numbers as the model says.
        unsafe {
            let vector = sys::llama_get_embeddings_seq(self.as_ptr(), seq);
            (!vector.is_null()).then(|| std::slice::from_raw_parts(vector, self.model.n_embd()))
        }
    }

    /// Whether it keeps what it computes of earlier tokens: encoders have no cache.
    pub fn has_cache(&self) -> bool {
        // SAFETY: the context lives.
        unsafe { !sys::llama_get_memory(self.as_ptr()).is_null() }
    }

    /// The logits of batch index `i` of the last decode call, one for each token of the vocabulary.
    /// None when that token asked for none.
    pub fn logits_of(&mut self, i: i32) -> Option<&[f32]> {
        let n_vocab = self.model.n_vocab() as usize;
        // SAFETY: the context lives, and its output buffer until the next decode call, which takes
        // `&mut self`. llama.cpp checks the index.
        unsafe {
            let row = sys::llama_get_logits_ith(self.as_ptr(), i);
            (!row.is_null()).then(|| std::slice::from_raw_parts(row, n_vocab))
        }
    }

    /// The logits of the last decode call, `[n_outputs, n_vocab]` row-major: a row for each token that
    /// asked for logits, in the order of the batch. None after a call that failed.
    pub fn logits(&mut self) -> &[f32] {
        if self.n_outputs == 0 {
            return &[];
        }
        let len = self.n_outputs * self.model.n_vocab() as usize;
        // SAFETY: the context lives, and its output buffer until the next decode call, which takes
        // `&mut self`. llama.cpp brings the rows into the batch's order; there are this many.
        unsafe {
            let rows = sys::llama_get_logits(self.as_ptr());
            assert!(!rows.is_null(), "llama.cpp has logits after a decode call");
            std::slice::from_raw_parts(rows, len)
        }
    }

    /// Forgets the tokens of `seq` from position `from` on; or all of them, where the model's state cannot
    /// be cut back, as a recurrent one's. Gives how many are kept: `from` or 0.
    #[must_use]
    pub fn truncate(&mut self, seq: SeqId, from: usize) -> usize {
        // SAFETY: the context lives; llama.cpp checks the sequence; -1 means to the end. To forget a whole
        // sequence never fails.
        unsafe {
            let memory = sys::llama_get_memory(self.as_ptr());
            if sys::llama_memory_seq_rm(memory, seq, from as Pos, -1) {
                return from;
            }
            sys::llama_memory_seq_rm(memory, seq, -1, -1);
        }
        0
    }

    /// Bytes of [`Context::state_of`].
    pub fn state_size(&mut self, seq: SeqId) -> usize {
        // SAFETY: the context lives; llama.cpp checks the sequence.
        unsafe { sys::llama_state_seq_get_size(self.as_ptr(), seq) }
    }

    /// All that the model has made of the tokens of `seq`, for [`Context::restore`]. None when llama.cpp fails.
    pub fn state_of(&mut self, seq: SeqId) -> Option<Vec<u8>> {
        let mut state = vec![0; self.state_size(seq)];
        // SAFETY: the buffer is passed with its own length.
        let n = unsafe {
            sys::llama_state_seq_get_data(self.as_ptr(), state.as_mut_ptr(), state.len(), seq)
        };
        (n > 0 && n == state.len()).then_some(state)
    }

    /// Makes of `seq` what [`Context::state_of`] gave for a sequence of a context like this one. `false`, and
    /// nothing is left in it, when llama.cpp refuses that.
    #[must_use]
    pub fn restore(&mut self, seq: SeqId, state: &[u8]) -> bool {
        // SAFETY: the buffer is passed with its own length, beyond which llama.cpp does not read.
        let n = unsafe {
            sys::llama_state_seq_set_data(self.as_ptr(), state.as_ptr(), state.len(), seq)
        };
        let restored = n == state.len() && n > 0;
        if !restored {
            let _ = self.truncate(seq, 0);
        }
        restored
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        // SAFETY: the context lives. `false` leaves the data, which nothing refers to any more.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.as_ptr()), false) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: freed once, before the threads that it computes on.
        unsafe { sys::llama_free(self.as_ptr()) }
    }
}

unsafe extern "C" fn call_abort(data: *mut c_void) -> bool {
    // SAFETY: `data` is the closure that `set_abort` keeps alive beside the context.
    let abort = unsafe { &*data.cast::<Abort>() };
    abort()
}
