//! Sixteen rows of weights side by side, unpacked to a byte each.

use std::arch::x86_64::*;

use crate::panel::Panel;

/// Rows of a tile: a register's lanes.
pub(crate) const ROWS: usize = 16;
/// Most weights of each row in a tile: with their scales, and with the values of some columns, two tiles stay
/// in the first-level cache.
pub(super) const WEIGHTS: usize = 512;

/// In each register, lane `r` belongs to row `r`.
pub(crate) struct Tile {
    /// Four unsigned weights of each row, in the order of the row.
    pub weights: [__m512i; WEIGHTS / 4],
    /// The scale of each group of weights.
    pub scales: [__m512; WEIGHTS / 16],
    /// What is added to each weight of a block; unused by most types.
    pub mins: [__m512; WEIGHTS / 32],
    /// Of K-quants, for 32 weights each: what the sums of their two halves are multiplied with, two 16-bit numbers.
    pub offsets: [__m512i; WEIGHTS / 32],
    /// The scale of a super-block's offsets.
    pub offset_scales: [__m512; WEIGHTS / 256],
}

/// Where the blocks of sixteen rows begin.
pub(crate) struct Rows {
    starts: [*const u8; ROWS],
}

impl Rows {
    /// From byte `at` on of the panel's rows from `row` on; beyond the panel's end, its last row again.
    pub fn of(panel: &Panel, row: usize, at: usize) -> Self {
        let mut starts = [std::ptr::null(); ROWS];
        let last = panel.row(panel.rows - 1);
        let mut start = panel.row(row.min(panel.rows - 1));
        for to in &mut starts {
            *to = start.wrapping_add(at);
            let below = start.wrapping_add(panel.weights_stride);
            start = if start < last { below } else { start };
        }
        Self { starts }
    }

    /// Where row `index` of the sixteen begins.
    #[inline(always)]
    pub fn row(&self, index: usize) -> *const u8 {
        self.starts[index]
    }

    /// Sixteen bytes from byte `at` of each row: in register `i`, the four bytes from `at + 4 * i` on.
    ///
    /// # Safety
    /// The CPU has AVX-512; each row is valid for reading these bytes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub unsafe fn load(&self, at: usize) -> [__m512i; 4] {
        // SAFETY: by the caller's word.
        let piece = |row: usize| unsafe { _mm_loadu_si128(self.starts[row].add(at).cast()) };
        let mut z = [_mm512_setzero_si512(); 4];
        for (i, z) in z.iter_mut().enumerate() {
            let four = _mm512_castsi128_si512(piece(i));
            let four = _mm512_inserti32x4::<1>(four, piece(4 + i));
            let four = _mm512_inserti32x4::<2>(four, piece(8 + i));
            *z = _mm512_inserti32x4::<3>(four, piece(12 + i));
        }
        let low = [
            _mm512_unpacklo_epi32(z[0], z[1]),
            _mm512_unpacklo_epi32(z[2], z[3]),
        ];
        let high = [
            _mm512_unpackhi_epi32(z[0], z[1]),
            _mm512_unpackhi_epi32(z[2], z[3]),
        ];
        [
            _mm512_unpacklo_epi64(low[0], low[1]),
            _mm512_unpackhi_epi64(low[0], low[1]),
            _mm512_unpacklo_epi64(high[0], high[1]),
            _mm512_unpackhi_epi64(high[0], high[1]),
        ]
    }

    /// The 16-bit number at byte `at` of each row.
    ///
    /// # Safety
    /// Each row is valid for reading two bytes there.
    #[inline(always)]
    pub unsafe fn halves(&self, at: usize) -> [u16; ROWS] {
        // SAFETY: by the caller's word.
        self.starts
            .map(|start| unsafe { start.add(at).cast::<u16>().read_unaligned() })
    }

    /// The 32-bit number at byte `at` of each row.
    ///
    /// # Safety
    /// The CPU has AVX-512; each row is valid for reading four bytes there.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub unsafe fn words(&self, at: usize) -> __m512i {
        // SAFETY: by the caller's word.
        let word = |row: usize| unsafe { self.starts[row].add(at).cast::<i32>().read_unaligned() };
        _mm512_setr_epi32(
            word(0),
            word(1),
            word(2),
            word(3),
            word(4),
            word(5),
            word(6),
            word(7),
            word(8),
            word(9),
            word(10),
            word(11),
            word(12),
            word(13),
            word(14),
            word(15),
        )
    }
}

/// Sixteen f16 as floats.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn floats(halves: [u16; ROWS]) -> __m512 {
    // SAFETY: sixteen halves are 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
}

/// The f16 in the lower half of each lane, as a float.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn low_floats(lanes: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lanes))
}

/// The four bytes from `values` on, in each lane.
///
/// # Safety
/// They are valid for reading; the CPU has AVX-512.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn spread<T>(values: *const T) -> __m512i {
    // SAFETY: by the caller's word.
    _mm512_set1_epi32(unsafe { values.cast::<i32>().read_unaligned() })
}
