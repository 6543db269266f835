//! Converts a few rows of one tensor: read, dequantized, checked, quantized, checked again.
//!
//! In: a [`Chunk`], the source, the tensor's description in the output. Out: its bytes. It must never
//! let through weights that are not finite.

use anyhow::{Result, bail};
use cloister_gguf::TensorInfo;

use crate::ggml::{self, Made};
use crate::imatrix_file::ImatrixFile;
use crate::source::{Place, Source};

/// Elements that one thread takes at a time: enough to make the queue cheap.
const CHUNK_ELEMENTS: u64 = 128 << 10;

/// Elements that are F32 at a time: few enough to stay in the cache that is nearest.
const TILE_ELEMENTS: u64 = 4 << 10;

/// Whole rows of one tensor that are converted together. They lie in one of its matrices, so that an
/// expert's rows are never mixed with another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Number of the tensor in the source and in the output.
    pub tensor: usize,
    /// Its first row, counted through all matrices of the tensor.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
}

/// The chunks of `targets` in the order of the file, from row `first_row` of tensor `tensor` on.
pub fn chunks(
    targets: &[TensorInfo],
    tensor: usize,
    first_row: u64,
) -> impl Iterator<Item = Chunk> + Send {
    let mut next = (tensor, first_row);
    std::iter::from_fn(move || {
        let (tensor, first_row) = next;
        let target = targets.get(tensor)?;
        let matrix_rows = target.dims.get(1).copied().unwrap_or(1);
        let most = (CHUNK_ELEMENTS / target.row_elements()).max(1);
        let rows = most.min(matrix_rows - first_row % matrix_rows);
        let end = first_row + rows;
        next = if end == target.rows() {
            (tensor + 1, 0)
        } else {
            (tensor, end)
        };
        Some(Chunk {
            tensor,
            first_row,
            rows,
        })
    })
}

/// A thread's memory, kept from chunk to chunk.
#[derive(Default)]
pub struct Buffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Buffers {
    /// Slices of these lengths, of any content.
    fn of(&mut self, bytes: usize, values: usize) -> (&mut [u8], &mut [f32]) {
        self.bytes.resize(self.bytes.len().max(bytes), 0);
        self.values.resize(self.values.len().max(values), 0.0);
        (&mut self.bytes[..bytes], &mut self.values[..values])
    }
}

impl Chunk {
    /// Makes `out` the chunk's bytes as `target` wants them.
    pub fn convert(
        &self,
        source: &Source,
        target: &TensorInfo,
        imatrix: Option<&ImatrixFile>,
        buffers: &mut Buffers,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let from = &source.tensors[self.tensor].info;
        let to = target.tensor_type;
        out.resize((self.rows * target.row_bytes()) as usize, 0);
        let row_elements = from.row_elements();
        let tile_rows = (TILE_ELEMENTS / row_elements).clamp(1, self.rows);
        let tile_elements = (tile_rows * row_elements) as usize;
        if from.tensor_type == to {
            source.rows.read(self.tensor, self.first_row, out)?;
            if ggml::can_be_read(to) {
                let (_, values) = buffers.of(0, tile_elements);
                let tiles = out.chunks((tile_rows * target.row_bytes()) as usize);
                for (tile, bytes) in tiles.enumerate() {
                    let values = &mut values[..elements(bytes, from)];
                    ggml::to_f32(to, bytes, values);
                    self.check_finite(source, tile * tile_elements, values)?;
                }
            }
            return Ok(());
        }
        let importance = match imatrix {
            Some(imatrix) if to.is_quantized() => imatrix.of_matrix(from, self.first_row)?,
            _ => None,
        };
        let importance = importance.as_deref();
        let (bytes, values) = buffers.of((self.rows * from.row_bytes()) as usize, tile_elements);
        source.rows.read(self.tensor, self.first_row, bytes)?;
        let read = bytes.chunks((tile_rows * from.row_bytes()) as usize);
        let written = out.chunks_mut((tile_rows * target.row_bytes()) as usize);
        for (tile, (bytes, out)) in read.zip(written).enumerate() {
            let first = tile * tile_elements;
            let values = &mut values[..elements(bytes, from)];
            ggml::to_f32(from.tensor_type, bytes, values);
            self.check_finite(source, first, values)?;
            if let Made::Finite = ggml::from_f32(to, values, row_elements, importance, out) {
                continue;
            }
            // Scales are F16: weights beyond its range would make a file that answers in NaN.
            ggml::to_f32(to, out, values);
            if let Some(at) = not_finite(values) {
                let place = self.stored_at(source, first + at);
                let (file, name) = (place.file.display(), place.tensor);
                bail!("{file}: tensor {name}: its values are too large for {to}");
            }
        }
        Ok(())
    }

    /// `first` is the number of the first of `values` within the chunk.
    fn check_finite(&self, source: &Source, first: usize, values: &[f32]) -> Result<()> {
        let Some(at) = not_finite(values) else {
            return Ok(());
        };
        let place = self.stored_at(source, first + at);
        bail!(
            "{}: tensor {}: {} at row {}, column {}; the checkpoint is damaged",
            place.file.display(),
            place.tensor,
            values[at],
            place.row,
            place.column,
        )
    }

    /// Where the chunk's value number `at` is stored.
    fn stored_at(&self, source: &Source, at: usize) -> Place {
        let row_elements = source.tensors[self.tensor].info.row_elements();
        let (row, column) = (at as u64 / row_elements, at as u64 % row_elements);
        source.stored_at(self.tensor, self.first_row + row, column)
    }
}

/// Elements in bytes of whole rows.
fn elements(bytes: &[u8], of: &TensorInfo) -> usize {
    bytes.len() / of.row_bytes() as usize * of.row_elements() as usize
}

fn not_finite(values: &[f32]) -> Option<usize> {
    // Without an early end, for SIMD: the farthest from zero, as bits, which have its order.
    let bits = |v: &f32| v.to_bits() & 0x7fff_ffff;
    let farthest = values.iter().map(bits).fold(0, u32::max);
    if f32::from_bits(farthest).is_finite() {
        return None;
    }
    values.iter().position(|v| !v.is_finite())
}

#[cfg(test)]
mod tests {
    use cloister_gguf::TensorType;

    use super::*;

    fn tensor(dims: &[u64]) -> TensorInfo {
        TensorInfo::new("t", dims.to_vec(), TensorType::F32).unwrap()
    }

    #[test]
    fn chunks_cover_each_row_once_and_end_with_each_matrix() {
        let targets = [
            tensor(&[1024]),
            tensor(&[1024, 200, 3]),
            tensor(&[1 << 20, 2]),
        ];
        let found: Vec<_> = chunks(&targets, 0, 0)
            .map(|c| (c.tensor, c.first_row, c.rows))
            .collect();
        let experts = [0, 200, 400].map(|row| [(1, row, 128), (1, row + 128, 72)]);
        let mut wanted = vec![(0, 0, 1)];
        wanted.extend(experts.concat());
        wanted.extend([(2, 0, 1), (2, 1, 1)]);
        assert_eq!(found, wanted);
    }

    #[test]
    fn chunks_can_start_at_any_row() {
        let targets = [tensor(&[1024]), tensor(&[1024, 200])];
        let found: Vec<_> = chunks(&targets, 1, 190).collect();
        let rest = Chunk {
            tensor: 1,
            first_row: 190,
            rows: 10,
        };
        assert_eq!(found, [rest]);
    }
}
