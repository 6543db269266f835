//! How attention is cut into tasks, and what becomes of these.

use super::cache::{Cache, Elements};
use super::query::Place;
use super::range::{HEAD, RANGE, Range, TILE};
use super::{Attention, Tensor};
use crate::simd::{self, Simd};

/// Most queries of a task: they stay in the second-level cache with their values.
const MOST_ROWS: usize = 64;

/// Most tokens whose ranges are tasks of their own: of more, there are enough tasks, and too much would be kept of ranges.
const FEW_TOKENS: usize = 8;

/// ggml's numbers of types.
pub(super) const F16: i32 = 1;
pub(super) const Q8_0: i32 = 8;

fn elements(number: i32) -> Option<Elements> {
    match number {
        F16 => Some(Elements::F16),
        Q8_0 => Some(Elements::Q8_0),
        _ => None,
    }
}

/// How the work is cut. All counts are the same for all threads.
pub(crate) struct Plan<'a> {
    pub(super) attention: &'a Attention,
    simd: simd::Attention,
    elements: [Elements; 2],
    /// Queries that share a head of the cache, in one stream, and those of a task.
    pub(super) rows: usize,
    rows_of_task: usize,
    ranges: usize,
    /// Whether each range is a task of its own, so that what is known of them is brought together in the end.
    pub split: bool,
}

impl<'a> Plan<'a> {
    /// Nothing where ggml is to compute it. Looks at types and sizes only.
    pub fn new(attention: &'a Attention, simd: Simd) -> Option<Self> {
        let elements = [
            elements(attention.key_type)?,
            elements(attention.value_type)?,
        ];
        let widths = [attention.key_width, attention.value_width];
        let whole = |(width, elements)| match elements {
            Elements::F16 => u64::is_multiple_of(width, 16),
            Elements::Q8_0 => u64::is_multiple_of(width, 32),
        };
        let rows = (attention.tokens * attention.heads / attention.kv_heads.max(1)) as usize;
        let some = rows > 0 && attention.keys > 0 && attention.streams > 0;
        if !some || !widths.into_iter().zip(elements).all(whole) {
            return None;
        }
        let ranges = (attention.keys as usize).div_ceil(RANGE);
        Some(Self {
            attention,
            simd: simd.attention(),
            elements,
            rows,
            rows_of_task: rows.min(MOST_ROWS),
            ranges,
            split: ranges > 1 && attention.tokens as usize <= FEW_TOKENS,
        })
    }

    /// Floats of what is known of a query.
    pub(super) fn known(&self) -> usize {
        HEAD + self.attention.value_width as usize
    }

    /// Floats that a thread works with.
    fn scratch(&self) -> usize {
        let widths = [self.attention.key_width, self.attention.value_width].map(|w| w as usize);
        let of_row = widths[0] + RANGE + 2 * self.known();
        self.rows_of_task * of_row + TILE * widths[0].max(widths[1])
    }

    /// Floats of what is known of each range of each query.
    fn parts(&self) -> usize {
        if self.split {
            self.queries() * self.ranges * self.known()
        } else {
            0
        }
    }

    pub fn work_bytes(&self, threads: usize) -> usize {
        (self.scratch() * threads + self.parts()) * size_of::<f32>()
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(self.rows_of_task)
    }

    pub fn tasks(&self) -> usize {
        let attention = self.attention;
        let ranges = if self.split { self.ranges } else { 1 };
        (attention.streams * attention.kv_heads) as usize * ranges * self.blocks()
    }

    /// Queries of all streams and heads.
    fn queries(&self) -> usize {
        (self.attention.streams * self.attention.kv_heads) as usize * self.rows
    }

    /// Computes a task.
    ///
    /// # Safety
    /// The tensors are as the attention says; `work` is valid for [`Plan::work_bytes`]; nobody else computes the task, nor
    /// is of the same number among the threads.
    pub unsafe fn compute(&self, task: usize, work: *mut f32, threads: usize, thread: usize) {
        let attention = self.attention;
        let blocks = self.blocks();
        let kv_heads = attention.kv_heads as usize;
        // Heads of the same range one after the other: they lie in the same pages of memory.
        let (rest, block) = (task / blocks, task % blocks);
        let (rest, kv_head) = (rest / kv_heads, rest % kv_heads);
        let ranges = if self.split { self.ranges } else { 1 };
        let (stream, range) = (rest / ranges, rest % ranges);
        let first = block * self.rows_of_task;
        let rows = (self.rows - first).min(self.rows_of_task);
        let place = Place {
            stream,
            kv_head,
            first,
        };
        let known = self.known();
        let scratch = work.wrapping_add(self.scratch() * thread);
        let parts = work.wrapping_add(self.scratch() * threads);
        let totals = scratch;
        let locals = totals.wrapping_add(self.rows_of_task * known);
        let scores = locals.wrapping_add(self.rows_of_task * known);
        let queries = scores.wrapping_add(self.rows_of_task * RANGE);
        let tile = queries.wrapping_add(self.rows_of_task * attention.key_width as usize);
        // SAFETY: all of these have room for as many rows; by the caller's word.
        unsafe {
            for row in 0..rows {
                let width = attention.key_width as usize;
                self.scale_query(&place, row, queries.add(row * width));
            }
            let room = [queries, scores, tile];
            if self.split {
                let out = parts.add((self.number(&place, 0) * self.ranges + range) * known);
                (self.simd.attend)(&self.range(
                    range,
                    &place,
                    rows,
                    room,
                    (out, self.ranges * known),
                ));
                return;
            }
            for row in 0..rows {
                self.begin(&place, row, totals.add(row * known));
            }
            for range in 0..self.ranges {
                (self.simd.attend)(&self.range(range, &place, rows, room, (locals, known)));
                for row in 0..rows {
                    (self.simd.merge)(
                        totals.add(row * known),
                        locals.add(row * known),
                        known - HEAD,
                    );
                }
            }
            for row in 0..rows {
                self.write(&place, row, totals.add(row * known));
            }
        }
    }

    /// Brings together what the tasks found out, in `thread`'s share of the queries.
    ///
    /// # Safety
    /// As [`Plan::compute`], all tasks of which are done.
    pub unsafe fn finish(&self, work: *mut f32, threads: usize, thread: usize) {
        if !self.split {
            return;
        }
        let known = self.known();
        let total = work.wrapping_add(self.scratch() * thread);
        let parts = work.wrapping_add(self.scratch() * threads);
        let share = |thread: usize| self.queries() * thread / threads;
        for query in share(thread)..share(thread + 1) {
            let place = Place {
                stream: query / self.rows / self.attention.kv_heads as usize,
                kv_head: query / self.rows % self.attention.kv_heads as usize,
                first: query % self.rows,
            };
            // SAFETY: by the caller's word; the tasks wrote each query's parts.
            unsafe {
                self.begin(&place, 0, total);
                for range in 0..self.ranges {
                    let part = parts.add((query * self.ranges + range) * known);
                    (self.simd.merge)(total, part, known - HEAD);
                }
                self.write(&place, 0, total);
            }
        }
    }

    /// The range of that number, for `rows` queries. What is known of the first goes to `out`, of the next `stride` floats behind.
    fn range(
        &self,
        number: usize,
        place: &Place,
        rows: usize,
        [queries, scores, tile]: [*mut f32; 3],
        (out, out_stride): (*mut f32, usize),
    ) -> Range {
        let attention = self.attention;
        let first = number * RANGE;
        let cache = |tensor: &Tensor, elements, width: u64| Cache {
            elements,
            first: tensor.row(first, place.kv_head, place.stream),
            stride: tensor.token as usize,
            width: width as usize,
        };
        let mask = attention.mask.row(0, 0, place.stream);
        Range {
            keys: cache(&attention.k, self.elements[0], attention.key_width),
            values: cache(&attention.v, self.elements[1], attention.value_width),
            count: (attention.keys as usize - first).min(RANGE),
            queries,
            rows,
            mask: match mask.is_null() {
                true => mask,
                false => mask.wrapping_add(first * size_of::<u16>()),
            },
            mask_stride: attention.mask.token as usize,
            group: (attention.heads / attention.kv_heads) as usize,
            first_row: place.first,
            scores,
            tile,
            out,
            out_stride,
        }
    }
}
