//! Which of this CPU's instruction sets computes, and how much of a product it takes at once.

use std::sync::OnceLock;

use crate::panel::Panel;
use crate::{WeightType, avx2, avx512};

/// An instruction set with kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simd {
    Avx512,
    Avx2,
}

impl Simd {
    /// Those that this CPU has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [
            (Self::Avx512, avx512::available()),
            (Self::Avx2, avx2::available()),
        ]
        .into_iter()
        .filter_map(|(simd, available)| available.then_some(simd))
    }

    /// The fastest that this CPU has.
    pub fn best() -> Option<Self> {
        static BEST: OnceLock<Option<Simd>> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().next())
    }

    /// Computes `panel`.
    ///
    /// # Safety
    /// `self` is one of [`Simd::available`], and `panel` keeps its promises.
    pub unsafe fn multiply(self, weight_type: WeightType, panel: &Panel) {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::Avx512 => avx512::multiply(weight_type, panel),
                Self::Avx2 => avx2::multiply(weight_type, panel),
            }
        }
    }

    /// Rows of a panel, of `rows` with `row_bytes` bytes each, for `columns` columns and `threads` threads.
    pub fn panel_rows(
        self,
        rows: usize,
        row_bytes: usize,
        columns: usize,
        threads: usize,
    ) -> usize {
        // At least two panels for each thread, so that one on a slower core can take fewer.
        let fair = rows.div_ceil(2 * threads);
        match self {
            Self::Avx512 if columns <= avx512::FEW_COLUMNS => (STREAM_BYTES / row_bytes)
                .min(fair)
                .next_multiple_of(avx512::ROWS),
            // All of them meet the same slice of the columns before the next slice is read.
            Self::Avx512 => 256.min(fair).next_multiple_of(2 * avx512::ROWS),
            Self::Avx2 if columns <= 4 => (STREAM_BYTES / row_bytes).clamp(1, fair.max(1)),
            Self::Avx2 => (PANEL_BYTES / row_bytes).clamp(1, 64),
        }
    }
}

/// Weights of one panel, in bytes: they stay in the first-level cache while the columns pass by.
const PANEL_BYTES: usize = 16 << 10;
/// The same where each row is read once: long stretches of memory come faster than short ones.
const STREAM_BYTES: usize = 256 << 10;
