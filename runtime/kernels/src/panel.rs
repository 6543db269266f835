//! A piece of a product that one thread computes at once: some rows, all columns.

use crate::activation::{Column, Layout};

/// Rows of weights, quantized columns, and where their products go.
///
/// Whoever makes one promises that `weights` is valid for reading `rows` rows, `columns` for reading
/// `n_columns` quantized columns or those that are picked, `picks`, if not null, `n_columns` picks, and that the output's places are valid and nobody else's.
pub(crate) struct Panel {
    /// The first row.
    pub weights: *const u8,
    /// Bytes from a row to the next.
    pub weights_stride: usize,
    pub rows: usize,
    pub columns: *const u8,
    pub n_columns: usize,
    pub layout: Layout,
    /// Where the product of the first row and the first column goes; the next row's is beside it.
    pub output: *mut f32,
    /// Bytes from a column of the output to the next.
    pub output_stride: usize,
    /// Null, or which columns these are, and where their products go.
    pub picks: *const Pick,
    /// Null, or the row that whoever computes this will begin with next: what memory may be asked for meanwhile.
    pub next: *const u8,
}

/// A column of those that are quantized, picked for a panel.
#[derive(Clone, Copy)]
pub(crate) struct Pick {
    pub column: usize,
    /// Bytes from the output's beginning to where the column's products go.
    pub output: usize,
}

impl Panel {
    #[inline(always)]
    pub fn row(&self, row: usize) -> *const u8 {
        self.weights.wrapping_add(row * self.weights_stride)
    }

    /// The columns from `first` on that lie side by side.
    #[cfg(target_arch = "aarch64")]
    pub fn side_by_side(&self, first: usize) -> Column {
        self.layout.side_by_side(self.columns, first)
    }

    #[inline(always)]
    pub fn column(&self, column: usize) -> Column {
        let column = self.pick(column).map_or(column, |pick| pick.column);
        self.layout.column(self.columns, column)
    }

    /// `C` columns from `first` on.
    #[inline(always)]
    pub fn columns<const C: usize>(&self, first: usize) -> [Column; C] {
        let mut columns = [self.column(first); C];
        for (i, column) in columns.iter_mut().enumerate() {
            *column = self.column(first + i);
        }
        columns
    }

    #[inline(always)]
    pub fn output(&self, row: usize, column: usize) -> *mut f32 {
        let place = match self.pick(column) {
            Some(pick) => pick.output,
            None => column * self.output_stride,
        };
        self.output.wrapping_byte_add(place).wrapping_add(row)
    }

    #[inline(always)]
    fn pick(&self, column: usize) -> Option<Pick> {
        debug_assert!(column < self.n_columns);
        // SAFETY: whoever made the panel promises as many picks as columns.
        (!self.picks.is_null()).then(|| unsafe { *self.picks.add(column) })
    }
}
