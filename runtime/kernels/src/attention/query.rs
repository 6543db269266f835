//! One query of a plan: whose it is, where it is read, and where its values are written.

use super::plan::Plan;
use super::range::HEAD;

/// Queries that share a head of the cache: where, and the number of the first one.
pub(super) struct Place {
    pub stream: usize,
    pub kv_head: usize,
    pub first: usize,
}

impl Plan<'_> {
    /// The number of a query among all.
    pub fn number(&self, place: &Place, row: usize) -> usize {
        (place.stream * self.attention.kv_heads as usize + place.kv_head) * self.rows
            + place.first
            + row
    }

    /// Whose query it is: the token, and the head.
    fn token_and_head(&self, place: &Place, row: usize) -> (usize, usize) {
        let group = (self.attention.heads / self.attention.kv_heads) as usize;
        let row = place.first + row;
        (row / group, place.kv_head * group + row % group)
    }

    /// # Safety
    /// The attention has the query; there is room for it at `to`.
    pub unsafe fn scale_query(&self, place: &Place, row: usize, to: *mut f32) {
        let (token, head) = self.token_and_head(place, row);
        let from = self
            .attention
            .q
            .row(token, head, place.stream)
            .cast::<f32>();
        for i in 0..self.attention.key_width as usize {
            // SAFETY: by the caller's word.
            unsafe { to.add(i).write(from.add(i).read() * self.attention.scale) };
        }
    }

    /// What is known of a query before it met a range.
    ///
    /// # Safety
    /// There is room for it.
    pub unsafe fn begin(&self, place: &Place, row: usize, total: *mut f32) {
        let (_, head) = self.token_and_head(place, row);
        let sinks = self.attention.sinks;
        // SAFETY: by the caller's word; there is a sink of each head, or none.
        unsafe {
            total.add(1).write_bytes(0, self.known() - 1);
            if sinks.is_null() {
                total.write(f32::NEG_INFINITY);
            } else {
                total.write(sinks.add(head).read());
                total.add(1).write(1.0);
            }
        }
    }

    /// Writes a query's values; zeros for one that saw no key.
    ///
    /// # Safety
    /// `total` is what is known of it; the output has the query.
    pub unsafe fn write(&self, place: &Place, row: usize, total: *const f32) {
        let attention = self.attention;
        let (token, head) = self.token_and_head(place, row);
        let number = (place.stream * attention.tokens as usize + token) * attention.heads as usize;
        let width = attention.value_width as usize;
        let output = attention.output.wrapping_add((number + head) * width);
        // SAFETY: by the caller's word.
        unsafe {
            let sum = total.add(1).read();
            let inverse = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            for i in 0..width {
                output.add(i).write(total.add(HEAD + i).read() * inverse);
            }
        }
    }
}
