//! The two ways of queries through rows of the cache: with keys to scores, and with weights to sums of values.

use super::cache::{AHEAD, Piece, Row};
use super::range::{HEAD, Range};
use super::vector::Vector;

/// Keys whose scores are computed together.
const KEYS: usize = 4;

/// What is done with some rows of the cache, and a few queries.
pub(super) trait Step {
    /// With `Q` queries from `first` on. The piece is the first one that they meet, if `fresh`.
    ///
    /// # Safety
    /// The CPU has what `V` is for; the range keeps its promises, and has the queries and the piece's rows.
    unsafe fn take<V: Vector, R: Row, const Q: usize>(
        range: &Range,
        first: usize,
        piece: &Piece,
        fresh: bool,
    );
}

/// Writes scores of keys. Behind the last key up to three more, which are nobody's.
pub(super) struct Scores;

impl Step for Scores {
    #[inline(always)]
    unsafe fn take<V: Vector, R: Row, const Q: usize>(
        range: &Range,
        first: usize,
        piece: &Piece,
        _: bool,
    ) {
        let width = range.keys.width;
        let queries = range.queries.wrapping_add(first * width);
        let last = piece.rows.len() - 1;
        for key in (0..piece.rows.len()).step_by(KEYS) {
            let mut keys = [piece.from; KEYS];
            for (i, row) in keys.iter_mut().enumerate() {
                *row = piece.row((key + i).min(last));
                R::ask::<V>(piece.row(key + i + AHEAD), 0, width);
            }
            // SAFETY: by the caller's word.
            unsafe {
                let mut sums = [[V::splat(0.0); KEYS]; Q];
                for element in (0..width).step_by(V::LANES) {
                    let mut elements = [V::splat(0.0); KEYS];
                    for i in 0..KEYS {
                        elements[i] = R::load::<V>(keys[i], element);
                    }
                    for (q, sums) in sums.iter_mut().enumerate() {
                        let query = V::load(queries.add(q * width + element));
                        for i in 0..KEYS {
                            sums[i] = sums[i].add_product(elements[i], query);
                        }
                    }
                }
                for (q, sums) in sums.into_iter().enumerate() {
                    let scores = range.scores(first + q);
                    V::store_sums(sums, scores.add(piece.rows.start + key));
                }
            }
        }
    }
}

/// Adds values, times the weights that are where the scores were, to what is known of the queries.
pub(super) struct Sums;

impl Step for Sums {
    #[inline(always)]
    unsafe fn take<V: Vector, R: Row, const Q: usize>(
        range: &Range,
        first: usize,
        piece: &Piece,
        fresh: bool,
    ) {
        let width = range.values.width;
        let mut element = 0;
        // SAFETY: by the caller's word; values have these elements.
        unsafe {
            while element + 4 * V::LANES <= width {
                add::<V, R, Q, 4>(range, first, piece, fresh, element);
                element += 4 * V::LANES;
            }
            while element < width {
                add::<V, R, Q, 1>(range, first, piece, fresh, element);
                element += V::LANES;
            }
        }
    }
}

/// Of `N` registers of elements from `element` on.
///
/// # Safety
/// As [`Step::take`]; values have the elements.
#[inline(always)]
unsafe fn add<V: Vector, R: Row, const Q: usize, const N: usize>(
    range: &Range,
    first: usize,
    piece: &Piece,
    fresh: bool,
    element: usize,
) {
    let sum = |q: usize, n: usize| {
        range
            .out(first + q)
            .wrapping_add(HEAD + element + n * V::LANES)
    };
    // SAFETY: by the caller's word.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; Q];
        if !fresh {
            for (q, sums) in sums.iter_mut().enumerate() {
                for (n, before) in sums.iter_mut().enumerate() {
                    *before = V::load(sum(q, n));
                }
            }
        }
        for (i, value) in piece.rows.clone().enumerate() {
            R::ask::<V>(piece.row(i + AHEAD), element, N * V::LANES);
            let mut elements = [V::splat(0.0); N];
            for (n, elements) in elements.iter_mut().enumerate() {
                *elements = R::load::<V>(piece.row(i), element + n * V::LANES);
            }
            for (q, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*range.scores(first + q).add(value));
                for n in 0..N {
                    sums[n] = sums[n].add_product(weight, elements[n]);
                }
            }
        }
        for (q, sums) in sums.into_iter().enumerate() {
            for (n, after) in sums.into_iter().enumerate() {
                after.store(sum(q, n));
            }
        }
    }
}
