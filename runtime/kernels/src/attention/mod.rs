//! Attention over the KV cache: queries with keys, and values by what comes of it.
//!
//! In: ggml's tensors as they lie. A task is some queries that share a head of the cache, with one range of it, or, of many
//! queries, with all of it; ranges are brought together in order, which gives the same bits. ggml itself takes each query
//! by itself, and converts keys and values anew for each that shares them.

mod cache;
#[cfg(feature = "ggml")]
mod hook;
mod plan;
mod query;
pub(crate) mod range;
mod steps;
#[cfg(test)]
mod tests;
pub(crate) mod vector;

/// A tensor's data, and bytes from a token (or key) to the next, from a head to the next, from a stream to the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tensor {
    pub data: *const u8,
    pub token: u64,
    pub head: u64,
    pub stream: u64,
}

/// Attention of `tokens` queries of each stream and head over `keys` keys and values of the stream.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub key_type: i32,
    pub value_type: i32,
    /// Of the products of queries and keys.
    pub scale: f32,
    pub key_width: u64,
    pub value_width: u64,
    pub tokens: u64,
    pub heads: u64,
    /// As many neighbouring heads share one of these.
    pub kv_heads: u64,
    pub streams: u64,
    pub keys: u64,
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    /// Null, or of half precision what is added to each token's scores, of all heads.
    pub mask: Tensor,
    /// Null, or for each head the score of a key whose value is zero, and which everybody sees.
    pub sinks: *const f32,
    /// Of each stream's tokens all heads, one behind the other.
    pub output: *mut f32,
}

impl Tensor {
    /// Null stays null.
    fn row(&self, token: usize, head: usize, stream: usize) -> *const u8 {
        let [token, head, stream] = [
            (token, self.token),
            (head, self.head),
            (stream, self.stream),
        ]
        .map(|(number, stride)| number * stride as usize);
        if self.data.is_null() {
            return self.data;
        }
        self.data.wrapping_add(token + head + stream)
    }
}
