//! The tokens of one decode call.

use llama_cpp_sys_2 as sys;

use super::{Pos, SeqId, Token};

/// A batch of at most `capacity` tokens, each of one sequence.
pub struct Batch {
    raw: sys::llama_batch,
    capacity: usize,
}

// SAFETY: the batch owns its arrays and nothing else points at them.
unsafe impl Send for Batch {}

impl Batch {
    /// An empty batch.
    pub fn new(capacity: usize) -> Self {
        // SAFETY: allocates arrays of `capacity` entries with room for one sequence each.
        let raw = unsafe { sys::llama_batch_init(capacity as i32, 0, 1) };
        Self { raw, capacity }
    }

    /// Number of tokens in the batch.
    pub fn len(&self) -> usize {
        self.raw.n_tokens as usize
    }

    /// Most tokens in the batch.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many more tokens fit.
    pub fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.raw.n_tokens = 0;
    }

    /// Adds `token` at `pos` of sequence `seq`, and returns its index; `logits` asks for its logits.
    ///
    /// # Panics
    /// When the batch is full.
    pub fn push(&mut self, token: Token, pos: Pos, seq: SeqId, logits: bool) -> i32 {
        assert!(self.room() > 0, "batch of {} tokens is full", self.capacity);
        let i = self.len();
        // SAFETY: `i` is below the capacity that all arrays were allocated with, and each entry of
        // `seq_id` points at room for one sequence.
        unsafe {
            *self.raw.token.add(i) = token;
            *self.raw.pos.add(i) = pos;
            *self.raw.n_seq_id.add(i) = 1;
            **self.raw.seq_id.add(i) = seq;
            *self.raw.logits.add(i) = i8::from(logits);
        }
        self.raw.n_tokens += 1;
        i as i32
    }

    /// How many of the tokens ask for their logits.
    pub(super) fn n_outputs(&self) -> usize {
        // SAFETY: the array has an entry for each token.
        let wanted = unsafe { std::slice::from_raw_parts(self.raw.logits, self.len()) };
        wanted.iter().filter(|wanted| **wanted != 0).count()
    }

    pub(super) fn raw(&self) -> sys::llama_batch {
        self.raw
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: from `llama_batch_init`, freed once.
        unsafe { sys::llama_batch_free(self.raw) }
    }
}
