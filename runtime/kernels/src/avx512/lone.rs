//! A lone column: rows are multiplied where they lie, and only their totals are brought side by side.
//!
//! Unpacking into a tile pays when several columns share it. Here a register holds 64 weights of one row,
//! sixteen in each 128-bit lane, all sixteen of one group. The totals are whole numbers, so that their order is
//! free; what is done with them is the same as for many columns, bit by bit.

use std::arch::x86_64::*;

use super::ahead::InOrder;
use super::tile::Rows;

/// Adds up each 128-bit lane of what `dot` gives for each row, of its `bytes` bytes from byte `at` on: in register `g` of the
/// result's entry `p`, lane `r` is the total of lane `g` of row `r`'s register `p`. As many bytes are asked for `ahead`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn totals<const P: usize>(
    rows: &Rows,
    ahead: &mut InOrder,
    at: usize,
    bytes: usize,
    dot: impl Fn(*const u8) -> [__m512i; P],
) -> [[__m512i; 4]; P] {
    // The library's functions that take closures are compiled for older CPUs, and would be called: loops.
    let mut totals = [[_mm512_setzero_si512(); 4]; P];
    for four in 0..4 {
        let mut dots = [[_mm512_setzero_si512(); P]; 4];
        for (i, dots) in dots.iter_mut().enumerate() {
            let row = four * 4 + i;
            ahead.ask(0, 1, bytes);
            *dots = dot(rows.row(row).wrapping_add(at));
        }
        let [a, b, c, d] = dots;
        for (p, totals) in totals.iter_mut().enumerate() {
            totals[four] = add_up(a[p], b[p], c[p], d[p]);
        }
    }
    for totals in &mut totals {
        *totals = turn(*totals);
    }
    totals
}

/// In each 128-bit lane: the totals of the same lane of the four.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn add_up(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// Lane `i` of register `j` to lane `j` of register `i`, 128 bits each.
#[target_feature(enable = "avx512f")]
#[inline]
fn turn([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let ab = [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b),
    ];
    let cd = [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d),
    ];
    [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(ab[0], cd[0]),
        _mm512_shuffle_i32x4::<0b10_00_10_00>(ab[1], cd[1]),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(ab[0], cd[0]),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(ab[1], cd[1]),
    ]
}

/// The 16 bytes at each of four places, one after the other.
///
/// # Safety
/// They are valid for reading; the CPU has AVX-512.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn gather<T>(from: *const T, at: [usize; 4]) -> __m512i {
    // SAFETY: by the caller's word.
    let piece = |i: usize| unsafe { _mm_loadu_si128(from.byte_add(at[i]).cast()) };
    let four = _mm512_castsi128_si512(piece(0));
    let four = _mm512_inserti32x4::<1>(four, piece(1));
    let four = _mm512_inserti32x4::<2>(four, piece(2));
    _mm512_inserti32x4::<3>(four, piece(3))
}
