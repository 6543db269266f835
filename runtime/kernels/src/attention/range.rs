//! Attention of some queries over one range of the cache, and how the ranges of a query are brought together.
//!
//! In: queries that share keys and values, all of one head of the cache. Out, for each: the largest score, the sum of the
//! scores' exponentials, and the sum of the values times these. What comes out for a query has the same bits whichever
//! others it is computed with: each score is added up in the same order, and what others see and it does not adds zeros.

use super::cache::{Cache, Elements, F16, F32, Piece, Q8_0, Row, unpack};
use super::steps::{Scores, Step, Sums};
use super::vector::{Vector, exp};

/// Keys of a range. Fixed, so that neither the number of threads nor what is in the cache behind it changes a bit.
pub(crate) const RANGE: usize = 256;

/// Keys or values that are unpacked at once, where more queries meet them than at once.
pub(crate) const TILE: usize = 32;

/// Floats beside the values' sum, in what is known of a query: the largest score, and the exponentials' sum.
pub(crate) const HEAD: usize = 2;

/// One range, and the queries that meet it.
///
/// Whoever makes one promises that all parts are valid as described.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    /// As many rows as [`Range::count`] says.
    pub keys: Cache,
    pub values: Cache,
    /// At most [`RANGE`].
    pub count: usize,
    /// One behind the other, each as wide as a key, scaled.
    pub queries: *const f32,
    pub rows: usize,
    /// Null, or for each of the range's keys what is added to the first token's scores, of half precision.
    pub mask: *const u8,
    /// Bytes from a token's to the next one's.
    pub mask_stride: usize,
    /// Queries of a token, and the number of the first one, counted from the first token's.
    pub group: usize,
    pub first_row: usize,
    /// Room for [`RANGE`] floats of each query.
    pub scores: *mut f32,
    /// Room for [`TILE`] rows of floats.
    pub tile: *mut f32,
    /// Where what is known of the first query goes: [`HEAD`] floats, and a row of values.
    pub out: *mut f32,
    /// Floats from there to where the next one's goes.
    pub out_stride: usize,
}

impl Range {
    /// Computes what is known of each query.
    ///
    /// # Safety
    /// The CPU has what `V` is for, and the range keeps its promises.
    #[inline(always)]
    pub unsafe fn attend<V: Vector>(&self) {
        // SAFETY: by the caller's word; all rows that are taken are of the range.
        unsafe {
            let seen = self.seen();
            if seen.is_empty() {
                for row in 0..self.rows {
                    self.out(row).write(f32::NEG_INFINITY);
                    self.out(row).add(1).write_bytes(0, 1 + self.values.width);
                }
                return;
            }
            self.through::<V, Scores>(&self.keys, seen.clone());
            for row in 0..self.rows {
                exponentials::<V>(self, row, seen.clone());
            }
            self.through::<V, Sums>(&self.values, seen);
        }
    }

    /// Takes the rows `seen` of a cache through a step, where all queries meet them at once as they lie, or else unpacked.
    ///
    /// # Safety
    /// As [`Range::attend`].
    #[inline(always)]
    unsafe fn through<V: Vector, S: Step>(&self, cache: &Cache, seen: std::ops::Range<usize>) {
        if self.rows <= V::QUERIES {
            let piece = cache.piece(seen);
            // SAFETY: by the caller's word.
            unsafe {
                match cache.elements {
                    Elements::F16 => self.meet::<V, S, F16>(&piece, true),
                    Elements::Q8_0 => self.meet::<V, S, Q8_0>(&piece, true),
                }
            }
            return;
        }
        for first in seen.clone().step_by(TILE) {
            let piece = cache.piece(first..(first + TILE).min(seen.end));
            // SAFETY: by the caller's word; the tile has room for so many rows.
            unsafe {
                match cache.elements {
                    Elements::F16 => unpack::<V, F16>(&piece, cache.width, self.tile),
                    Elements::Q8_0 => unpack::<V, Q8_0>(&piece, cache.width, self.tile),
                }
                let unpacked = Piece {
                    from: self.tile.cast_const().cast(),
                    stride: cache.width * size_of::<f32>(),
                    rows: piece.rows,
                };
                self.meet::<V, S, F32>(&unpacked, first == seen.start);
            }
        }
    }

    /// Takes all queries through a step with the rows of a piece, a few at a time.
    ///
    /// # Safety
    /// As [`Step::take`].
    #[inline(always)]
    unsafe fn meet<V: Vector, S: Step, R: Row>(&self, piece: &Piece, fresh: bool) {
        for first in (0..self.rows).step_by(V::QUERIES) {
            // SAFETY: by the caller's word; there are so many queries.
            unsafe {
                match (self.rows - first).min(V::QUERIES) {
                    1 => S::take::<V, R, 1>(self, first, piece, fresh),
                    2 => S::take::<V, R, 2>(self, first, piece, fresh),
                    3 => S::take::<V, R, 3>(self, first, piece, fresh),
                    _ => S::take::<V, R, 4>(self, first, piece, fresh),
                }
            }
        }
    }

    #[inline(always)]
    pub fn out(&self, row: usize) -> *mut f32 {
        self.out.wrapping_add(row * self.out_stride)
    }

    #[inline(always)]
    pub fn scores(&self, row: usize) -> *mut f32 {
        self.scores.wrapping_add(row * RANGE)
    }

    /// What is added to the scores of a query, if there is a mask.
    ///
    /// # Safety
    /// The range keeps its promises.
    unsafe fn mask(&self, row: usize) -> Option<&[u16]> {
        let token = (self.first_row + row) / self.group;
        let mask = self.mask.wrapping_add(token * self.mask_stride);
        // SAFETY: by the caller's word.
        (!self.mask.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(mask.cast(), self.count) })
    }

    /// From the first key that any query sees, or a few before it, to the last one. What begins with a whole register has no
    /// four keys that end beyond a range.
    ///
    /// # Safety
    /// The range keeps its promises.
    unsafe fn seen(&self) -> std::ops::Range<usize> {
        let (mut first, mut end) = (self.count, 0);
        // Those of a token see the same.
        let next_token = |row: usize| row + self.group - (self.first_row + row) % self.group;
        let mut row = 0;
        while row < self.rows {
            // SAFETY: by the caller's word.
            let Some(mask) = (unsafe { self.mask(row) }) else {
                return 0..self.count;
            };
            let seen = |m: &u16| *m != MINUS_INFINITY;
            first = mask[..first].iter().position(seen).unwrap_or(first);
            end += mask[end..]
                .iter()
                .rposition(seen)
                .map_or(0, |last| last + 1);
            row = next_token(row);
        }
        first / 16 * 16..end
    }
}

/// Of half precision.
const MINUS_INFINITY: u16 = 0xfc00;

/// Makes of a query's scores their exponentials, and writes their sum and the largest score.
///
/// # Safety
/// The CPU has what `V` is for; the range keeps its promises and has the query; the scores of `seen` are there.
#[inline(always)]
unsafe fn exponentials<V: Vector>(range: &Range, row: usize, seen: std::ops::Range<usize>) {
    let scores = range.scores(row);
    let out = range.out(row);
    // Whole registers, counted from the range's beginning, so that each key has the same lane whatever is seen.
    let whole = seen.start..seen.end.next_multiple_of(16);
    // SAFETY: by the caller's word; there is room for a whole range of scores.
    unsafe {
        for unseen in seen.end..whole.end {
            scores.add(unseen).write(f32::NEG_INFINITY);
        }
        let mut greatest = V::splat(f32::NEG_INFINITY);
        let mask = range.mask(row);
        for at in whole.clone().step_by(V::LANES) {
            let mut score = V::load(scores.add(at));
            if let Some(mask) = mask {
                if at + V::LANES <= range.count {
                    score = score.masked(V::load_halves(mask.as_ptr().add(at)));
                } else {
                    let mut rest = [0; 16];
                    let there = &mask[at.min(range.count)..];
                    rest[..there.len()].copy_from_slice(there);
                    score = score.masked(V::load_halves(rest.as_ptr()));
                }
            }
            score.store(scores.add(at));
            greatest = score.max(greatest);
        }
        let greatest = greatest.greatest();
        out.write(greatest);
        // Who sees nothing has weights of zero; of a score that is no number, or infinite, everything is no number.
        let less = if greatest == f32::NEG_INFINITY {
            0.0
        } else {
            -greatest
        };
        let less = V::splat(less);
        let mut sums = V::splat(0.0);
        for at in whole.step_by(V::LANES) {
            let weight = exp(V::load(scores.add(at)).add(less));
            weight.store(scores.add(at));
            sums = sums.add(weight);
        }
        out.add(1).write(sums.sum());
    }
}

/// Adds what is known of a query from one range to what is known of it, with values of `width`.
///
/// # Safety
/// The CPU has what `V` is for; both have [`HEAD`] floats and `width` values.
#[inline(always)]
pub(crate) unsafe fn merge<V: Vector>(total: *mut f32, part: *const f32, width: usize) {
    // SAFETY: by the caller's word.
    unsafe {
        let (sum, of_part) = (*total.add(1), *part.add(1));
        if of_part == 0.0 {
            return;
        }
        let greatest = total.read().max(part.read());
        let [scale, scale_of_part] = [
            (total.read() - greatest).exp(),
            (part.read() - greatest).exp(),
        ];
        total.write(greatest);
        total.add(1).write(sum * scale + of_part * scale_of_part);
        let [scale, scale_of_part] = [V::splat(scale), V::splat(scale_of_part)];
        for at in (HEAD..HEAD + width).step_by(V::LANES) {
            let value = V::load(total.add(at)).multiply(scale);
            value
                .add_product(V::load(part.add(at)), scale_of_part)
                .store(total.add(at));
        }
    }
}
