//! What the header says of one tensor.

use crate::TensorType;

/// Name, shape, type and place of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, such as `blk.0.attn_q.weight`; unique in a file.
    pub name: String,
    /// Elements along each axis, 1 to 4 of them, in ggml's order: `dims[0]` is the length of a row
    /// (contiguous in memory), so a PyTorch weight `[out, in]` is `[in, out]` here.
    pub dims: Vec<u64>,
    /// The element type.
    pub tensor_type: TensorType,
    /// Bytes from the start of the data section to the first byte of this tensor.
    pub offset: u64,
}

impl TensorInfo {
    /// Describes a tensor for writing; its offset is the writer's to choose. `None` if there is no
    /// dimension, more than four, an empty one, a row that fills no whole number of blocks, or a
    /// size beyond 2^63 bytes.
    pub fn new(name: impl Into<String>, dims: Vec<u64>, tensor_type: TensorType) -> Option<Self> {
        let info = TensorInfo {
            name: name.into(),
            dims,
            tensor_type,
            offset: 0,
        };
        info.problem().is_none().then_some(info)
    }

    /// Why this shape cannot be, or `None` for a sound one. The other methods count on it.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.dims.is_empty() || self.dims.len() > 4 {
            return Some(format!(
                "has {} dimensions; 1 to 4 are allowed",
                self.dims.len()
            ));
        }
        if self.dims.contains(&0) {
            return Some(format!("has an empty dimension: {:?}", self.dims));
        }
        let block = self.tensor_type.block_elements();
        if !self.dims[0].is_multiple_of(block) {
            return Some(format!(
                "its rows of {} elements fill no whole number of {} blocks of {block}",
                self.dims[0], self.tensor_type
            ));
        }
        let elements = self
            .dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim));
        let bytes = elements.and_then(|n| self.tensor_type.bytes_of(n));
        // Elements and bytes are i64 in ggml.
        match (elements, bytes) {
            (Some(n), Some(b)) if n.max(b) <= i64::MAX as u64 => None,
            _ => Some(format!(
                "its size overflows: {:?} of {}",
                self.dims, self.tensor_type
            )),
        }
    }

    /// Elements in the tensor.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Elements in one row.
    pub fn row_elements(&self) -> u64 {
        self.dims[0]
    }

    /// Rows in the tensor, over all outer dimensions.
    pub fn rows(&self) -> u64 {
        self.dims[1..].iter().product()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        self.dims[0] / self.tensor_type.block_elements() * self.tensor_type.block_bytes()
    }

    /// Bytes of the tensor, without padding.
    pub fn bytes(&self) -> u64 {
        self.rows() * self.row_bytes()
    }
}
