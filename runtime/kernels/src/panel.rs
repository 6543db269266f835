//! A piece of a product that one thread computes at once: some rows, all columns.

use crate::activation::{Column, Layout};

/// Rows of weights, quantized columns, and where their products go.
///
/// Whoever makes one promises that `weights` is valid for reading `rows` rows, `columns` for reading
/// `n_columns` quantized columns, and that the output's places are valid and nobody else's.
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
}

impl Panel {
    pub fn row(&self, row: usize) -> *const u8 {
        self.weights.wrapping_add(row * self.weights_stride)
    }

    /// The four columns from `first` on, which lie side by side.
    #[cfg(target_arch = "aarch64")]
    pub fn four(&self, first: usize) -> Column {
        self.layout.four(self.columns, first)
    }

    pub fn column(&self, column: usize) -> Column {
        self.layout.column(self.columns, column)
    }

    /// `C` columns from `first` on.
    pub fn columns<const C: usize>(&self, first: usize) -> [Column; C] {
        let mut columns = [self.column(first); C];
        for (i, column) in columns.iter_mut().enumerate() {
            *column = self.column(first + i);
        }
        columns
    }

    pub fn output(&self, row: usize, column: usize) -> *mut f32 {
        self.output
            .wrapping_byte_add(column * self.output_stride)
            .wrapping_add(row)
    }
}
