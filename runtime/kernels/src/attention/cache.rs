//! Rows of the KV cache, and how their elements become floats.

use super::vector::Vector;

/// What elements of the cache are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    F16,
    Q8_0,
}

/// Rows of the cache.
#[derive(Clone, Copy)]
pub(crate) struct Cache {
    pub elements: Elements,
    pub first: *const u8,
    /// Bytes from a row to the next.
    pub stride: usize,
    /// Elements of a row, a multiple of 16, and for Q8_0 of 32.
    pub width: usize,
}

impl Cache {
    /// So many rows from `first` on.
    #[inline(always)]
    pub(super) fn piece(&self, rows: std::ops::Range<usize>) -> Piece {
        Piece {
            from: self.first.wrapping_add(rows.start * self.stride),
            stride: self.stride,
            rows,
        }
    }
}

/// Some rows that lie somewhere: the numbers that they have in their range, and bytes from one to the next.
pub(super) struct Piece {
    pub from: *const u8,
    pub stride: usize,
    pub rows: std::ops::Range<usize>,
}

impl Piece {
    /// The row of that number, counted from the piece's first.
    #[inline(always)]
    pub fn row(&self, number: usize) -> *const u8 {
        self.from.wrapping_add(number * self.stride)
    }
}

/// Rows of the cache from the one that is read to the one that memory is asked for meanwhile. The CPU's own prefetching ends at
/// each page, of which a cache of many heads puts few rows of one head into.
pub(super) const AHEAD: usize = 16;

/// How elements become floats.
pub(super) trait Row {
    /// Asks memory for `count` elements from `at` on, of a row that will be read soon. It is a hint, and reads nothing.
    fn ask<V: Vector>(row: *const u8, at: usize, count: usize);

    /// Elements from `at` on, of which a register's are in one block.
    unsafe fn load<V: Vector>(row: *const u8, at: usize) -> V;
}

#[inline(always)]
fn ask<V: Vector>(row: *const u8, bytes: std::ops::Range<usize>) {
    for at in bytes.step_by(64) {
        V::ask(row.wrapping_add(at));
    }
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Q8_0;

impl Row for F32 {
    /// They were unpacked a moment ago.
    #[inline(always)]
    fn ask<V: Vector>(_: *const u8, _: usize, _: usize) {}

    #[inline(always)]
    unsafe fn load<V: Vector>(row: *const u8, at: usize) -> V {
        // SAFETY: by the caller's word.
        unsafe { V::load(row.cast::<f32>().add(at)) }
    }
}

impl Row for F16 {
    #[inline(always)]
    fn ask<V: Vector>(row: *const u8, at: usize, count: usize) {
        ask::<V>(row, at * 2..(at + count) * 2);
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(row: *const u8, at: usize) -> V {
        // SAFETY: by the caller's word.
        unsafe { V::load_halves(row.cast::<u16>().add(at)) }
    }
}

impl Row for Q8_0 {
    #[inline(always)]
    fn ask<V: Vector>(row: *const u8, at: usize, count: usize) {
        ask::<V>(row, at / 32 * 34..(at + count) / 32 * 34);
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(row: *const u8, at: usize) -> V {
        // SAFETY: by the caller's word; a block is a scale of half precision and 32 bytes.
        unsafe {
            let block = row.add(at / 32 * 34);
            let bytes = V::load_bytes(block.add(2 + at % 32).cast());
            bytes.multiply(V::splat_half(block.cast()))
        }
    }
}

/// Writes the rows of `piece`, elements of `R`, to `tile` as floats, one behind the other.
///
/// # Safety
/// The CPU has what `V` is for; the piece has rows of `width` elements, and `tile` has room for them.
#[inline(always)]
pub(super) unsafe fn unpack<V: Vector, R: Row>(piece: &Piece, width: usize, tile: *mut f32) {
    for row in 0..piece.rows.len() {
        R::ask::<V>(piece.row(row + AHEAD), 0, width);
        for at in (0..width).step_by(V::LANES) {
            // SAFETY: by the caller's word.
            unsafe { R::load::<V>(piece.row(row), at).store(tile.add(row * width + at)) };
        }
    }
}
