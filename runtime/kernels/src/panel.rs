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

    pub fn column(&self, column: usize) -> Column {
        self.layout.column(self.columns, column)
    }

    pub fn output(&self, row: usize, column: usize) -> *mut f32 {
        self.output
            .wrapping_byte_add(column * self.output_stride)
            .wrapping_add(row)
    }
}

/// How a type's rows are multiplied one by one.
pub(crate) trait RowKernel {
    /// The dot products of one row of `blocks` blocks with `N` columns.
    ///
    /// # Safety
    /// The CPU has what the kernel is made for; `row` holds `blocks` blocks; each column is of as many weights.
    unsafe fn dot<const N: usize>(row: *const u8, blocks: usize, columns: &[Column; N])
    -> [f32; N];
}

/// Computes `panel`, each row for up to four columns at once.
///
/// # Safety
/// The CPU has what `K` is made for, and `panel`, of `K`'s type, keeps its promises.
#[inline(always)]
pub(crate) unsafe fn multiply_rows<K: RowKernel>(panel: &Panel) {
    let mut first = 0;
    while first < panel.n_columns {
        let n = (panel.n_columns - first).min(4);
        // SAFETY: as the caller says; there are `n` columns from `first` on.
        unsafe {
            match n {
                1 => multiply_columns::<K, 1>(panel, first),
                2 => multiply_columns::<K, 2>(panel, first),
                3 => multiply_columns::<K, 3>(panel, first),
                _ => multiply_columns::<K, 4>(panel, first),
            }
        }
        first += n;
    }
}

/// # Safety
/// As [`multiply_rows`]; the panel has `N` columns from `first` on.
#[inline(always)]
unsafe fn multiply_columns<K: RowKernel, const N: usize>(panel: &Panel, first: usize) {
    let blocks = panel.layout.k / panel.layout.block_len;
    let mut columns = [panel.column(first); N];
    for (i, column) in columns.iter_mut().enumerate() {
        *column = panel.column(first + i);
    }
    for row in 0..panel.rows {
        // SAFETY: the panel has this row, these columns, and their places in the output.
        unsafe {
            let products = K::dot(panel.row(row), blocks, &columns);
            for (i, product) in products.into_iter().enumerate() {
                panel.output(row, first + i).write(product);
            }
        }
    }
}
