//! What fills a tensor of the GGUF file: weights of the checkpoint, in the order that llama.cpp wants
//! their rows in, or values that follow from the config.
//!
//! Rows are read when they are asked for; the largest thing that is held is one head of a matrix
//! that is transposed.

use anyhow::{Result, bail};
use cloister_gguf::TensorType;

use super::fp8::{Fp8, SCALES};
use super::safetensors::{Checkpoint, Dtype, StoredTensor};
use crate::ggml;
use crate::source::Place;

/// A tensor of the checkpoint as rows of floats, whatever it is stored as.
pub struct Weight {
    name: String,
    tensor: StoredTensor,
    scales: Option<(Fp8, StoredTensor)>,
}

impl Weight {
    /// The tensor `name`, which must have the shape `shape`, and its scales if it is FP8.
    pub fn open(
        checkpoint: &Checkpoint,
        fp8: Option<Fp8>,
        name: &str,
        shape: &[u64],
    ) -> Result<Weight> {
        let Some(tensor) = checkpoint.tensor(name) else {
            bail!("{}: tensor {name} is missing", checkpoint.path().display());
        };
        let file = checkpoint.file_of(tensor).display();
        if tensor.shape != shape {
            bail!(
                "{file}: tensor {name} has the shape {:?}, but config.json asks for {shape:?}",
                tensor.shape
            );
        }
        let scales = if let Dtype::F8E4M3 = tensor.dtype {
            let (Some(fp8), &[rows, columns]) = (fp8, shape) else {
                bail!("{file}: tensor {name} is F8_E4M3, of which config.json says no blocks");
            };
            let name = format!("{name}{SCALES}");
            let Some(scales) = checkpoint.tensor(&name) else {
                bail!("{file}: tensor {name} is missing, the scales of an F8_E4M3 tensor");
            };
            let file = checkpoint.file_of(scales).display();
            let wanted = fp8.scales([rows, columns]);
            if scales.shape != wanted || scales.dtype == Dtype::F8E4M3 {
                bail!(
                    "{file}: tensor {name} has the shape {:?}, but {wanted:?} floats are needed",
                    scales.shape
                );
            }
            Some((fp8, scales.clone()))
        } else {
            None
        };
        Ok(Weight {
            name: name.to_owned(),
            tensor: tensor.clone(),
            scales,
        })
    }

    pub fn is_fp8(&self) -> bool {
        self.scales.is_some()
    }

    /// The type that rows are read as.
    pub fn tensor_type(&self) -> TensorType {
        self.tensor.dtype.read_as()
    }

    fn element_bytes(&self) -> usize {
        self.tensor_type().block_bytes() as usize
    }

    fn columns(&self) -> u64 {
        *self
            .tensor
            .shape
            .last()
            .expect("shapes of config.json have dimensions")
    }

    fn row_bytes(&self) -> usize {
        self.columns() as usize * self.element_bytes()
    }

    /// Fills `buffer` with whole rows from `first` on.
    fn read(&self, checkpoint: &Checkpoint, first: u64, buffer: &mut [u8]) -> Result<()> {
        let Some((fp8, scales)) = &self.scales else {
            return checkpoint.read(&self.tensor, first * self.row_bytes() as u64, buffer);
        };
        let columns = self.columns();
        let rows = (buffer.len() / self.row_bytes()) as u64;
        let mut codes = vec![0; (rows * columns) as usize];
        checkpoint.read(&self.tensor, first * columns, &mut codes)?;
        let (scale_row, scale_rows) = fp8.scale_rows(first, rows);
        let scale_columns = scales.shape[1];
        let stored = scales.dtype.read_as();
        let mut bytes = vec![0; (scale_rows * scale_columns * stored.block_bytes()) as usize];
        let start = scale_row * scale_columns * stored.block_bytes();
        checkpoint.read(scales, start, &mut bytes)?;
        let mut values = vec![0.0; (scale_rows * scale_columns) as usize];
        ggml::to_f32(stored, &bytes, &mut values);
        let out = buffer.as_chunks_mut::<4>().0;
        fp8.dequantize(first, columns as usize, &codes, &values, out);
        Ok(())
    }
}

/// Some rows of each head of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct HeadPart {
    /// Rows of a head.
    pub of: u64,
    /// The first of the part.
    pub first: u64,
    /// Rows of the part.
    pub rows: u64,
}

/// Where the bytes of a tensor come from.
pub enum Content {
    AsStored(Weight),
    /// The rows of so many attention heads, which change places as [`rotary_row`] says.
    Rotary(Weight, u64),
    /// A part of each head.
    Part(Weight, HeadPart),
    /// A part of each head, with rows and columns exchanged.
    Transposed(Weight, HeadPart),
    /// Matrices of so many rows each, one behind the other.
    Stacked(Vec<Weight>, u64),
    Computed(Vec<f32>),
}

impl Content {
    pub fn tensor_type(&self) -> TensorType {
        match self {
            Content::AsStored(weight)
            | Content::Rotary(weight, _)
            | Content::Part(weight, _)
            | Content::Transposed(weight, _) => weight.tensor_type(),
            Content::Stacked(weights, _) => weights[0].tensor_type(),
            Content::Computed(_) => TensorType::F32,
        }
    }

    /// Fills `buffer` with whole rows from `first` on.
    pub fn read(&self, checkpoint: &Checkpoint, first: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Content::Computed(values) => {
                for (four, value) in buffer.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *four = value.to_le_bytes();
                }
                Ok(())
            }
            Content::AsStored(weight) => weight.read(checkpoint, first, buffer),
            // A bias is one row whose elements are what a weight's rows are.
            Content::Rotary(weight, heads) if weight.tensor.shape.len() == 1 => {
                let element_bytes = weight.element_bytes();
                let mut whole = vec![0; weight.row_bytes()];
                weight.read(checkpoint, 0, &mut whole)?;
                for (i, element) in buffer.chunks_mut(element_bytes).enumerate() {
                    let from = rotary_row(i as u64, weight.columns() / heads) as usize;
                    element.copy_from_slice(&whole[from * element_bytes..][..element_bytes]);
                }
                Ok(())
            }
            Content::Rotary(weight, heads) => {
                let head = weight.tensor.shape[0] / heads;
                for (row, bytes) in (first..).zip(buffer.chunks_mut(weight.row_bytes())) {
                    weight.read(checkpoint, rotary_row(row, head), bytes)?;
                }
                Ok(())
            }
            Content::Part(weight, part) => by_blocks(
                first,
                part.rows,
                weight.row_bytes(),
                buffer,
                |head, row, bytes| {
                    weight.read(checkpoint, head * part.of + part.first + row, bytes)
                },
            ),
            Content::Stacked(weights, rows) => by_blocks(
                first,
                *rows,
                weights[0].row_bytes(),
                buffer,
                |i, row, bytes| weights[i as usize].read(checkpoint, row, bytes),
            ),
            Content::Transposed(weight, part) => {
                let element = weight.element_bytes();
                let (rows, row_bytes) = (part.rows as usize, weight.row_bytes());
                let mut head_bytes = vec![0; rows * row_bytes];
                let columns = weight.columns();
                by_blocks(
                    first,
                    columns,
                    rows * element,
                    buffer,
                    |head, column, bytes| {
                        weight.read(checkpoint, head * part.of + part.first, &mut head_bytes)?;
                        for (column, out) in
                            (column as usize..).zip(bytes.chunks_mut(rows * element))
                        {
                            for (row, out) in out.chunks_mut(element).enumerate() {
                                let from = row * row_bytes + column * element;
                                out.copy_from_slice(&head_bytes[from..from + element]);
                            }
                        }
                        Ok(())
                    },
                )
            }
        }
    }

    /// Where the element of `row` and `column` is stored; `None` if it is computed.
    pub fn stored_at(&self, checkpoint: &Checkpoint, row: u64, column: u64) -> Option<Place> {
        let of_head =
            |part: &HeadPart, row| row / part.rows * part.of + part.first + row % part.rows;
        let (weight, row, column) = match self {
            Content::Computed(_) => return None,
            Content::AsStored(weight) => (weight, row, column),
            Content::Rotary(weight, heads) if weight.tensor.shape.len() == 1 => {
                (weight, row, rotary_row(column, weight.columns() / heads))
            }
            Content::Rotary(weight, heads) => {
                let head = weight.tensor.shape[0] / heads;
                (weight, rotary_row(row, head), column)
            }
            Content::Part(weight, part) => (weight, of_head(part, row), column),
            Content::Transposed(weight, part) => {
                let (head, from_column) = (row / weight.columns(), row % weight.columns());
                (
                    weight,
                    of_head(part, head * part.rows + column),
                    from_column,
                )
            }
            Content::Stacked(weights, rows) => {
                (&weights[(row / rows) as usize], row % rows, column)
            }
        };
        Some(Place {
            file: checkpoint.file_of(&weight.tensor).to_owned(),
            tensor: weight.name.clone(),
            row,
            column,
        })
    }
}

/// Cuts `buffer`, rows of `row_bytes` from row `first` on, where blocks of `rows` rows begin, and
/// hands each piece to `read` with the block's number and the piece's first row in it.
fn by_blocks(
    first: u64,
    rows: u64,
    row_bytes: usize,
    mut buffer: &mut [u8],
    mut read: impl FnMut(u64, u64, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let mut row = first;
    while !buffer.is_empty() {
        let left = (rows - row % rows).min((buffer.len() / row_bytes) as u64);
        let (piece, rest) = buffer.split_at_mut(left as usize * row_bytes);
        read(row / rows, row % rows, piece)?;
        (buffer, row) = (rest, row + left);
    }
    Ok(())
}

/// The row of the checkpoint that becomes row `row` of the GGUF file, in heads of `head` rows.
///
/// Hugging Face rotates element `i` of a head with element `i + head / 2`, llama.cpp's llama rotates
/// neighbours; so the two halves of each head are interleaved.
fn rotary_row(row: u64, head: u64) -> u64 {
    let (start, within) = (row / head * head, row % head);
    start + within % 2 * (head / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_each_head_are_interleaved() {
        let rows: Vec<u64> = (0..12).map(|row| rotary_row(row, 6)).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
