//! Reads a Hugging Face folder as a model: config.json, tokenizer.json and safetensors, of the
//! architectures qwen2 and llama.
//!
//! In: a folder. Out: a [`Source`] with GGUF's keys and tensor names, equal to what llama.cpp's
//! `convert_hf_to_gguf.py` writes. It must never guess: a tensor that is missing, unknown or of
//! another shape than config.json says is an error, and so is a tokenizer that is not known here.

mod config;
mod general;
mod json_file;
mod layout;
mod model_name;
mod pre_tokenizer;
mod safetensors;
mod tokenizer;

use std::path::Path;

use anyhow::{Result, bail};
use cloister_gguf::{Metadata, TensorInfo, TensorType};

use crate::source::{Rows, Source, SourceTensor};
use config::Config;
use layout::{Contents, Slot};
use safetensors::{Checkpoint, StoredTensor};

/// Opens the model in `folder`.
pub fn open(folder: &Path) -> Result<Source> {
    let config = Config::read(folder)?;
    let checkpoint = Checkpoint::open(folder)?;
    let slots = layout::slots(&config, &checkpoint)?;

    let mut tensors = Vec::new();
    let mut contents = Vec::new();
    for slot in slots {
        let (tensor_type, content) = match slot.contents {
            Contents::Computed(values) => {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (TensorType::F32, Content::Computed(bytes))
            }
            Contents::Stored { ref name, heads } => {
                let stored = stored(&checkpoint, name, &slot)?;
                (
                    stored.tensor_type,
                    Content::Stored {
                        tensor: stored.clone(),
                        heads,
                    },
                )
            }
        };
        // PyTorch's [rows, row length] is GGUF's [row length, rows].
        let dims: Vec<u64> = slot.shape.iter().rev().copied().collect();
        let Some(info) = TensorInfo::new(slot.gguf_name, dims, tensor_type) else {
            bail!(
                "{}: a tensor of shape {:?} is too large",
                folder.display(),
                slot.shape
            );
        };
        tensors.push(SourceTensor {
            info,
            kept: TensorType::F32,
        });
        contents.push(content);
    }

    let parameters = tensors.iter().map(|t| t.info.elements()).sum();
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", config.architecture());
    metadata.set("general.type", "model");
    general::write_keys(folder, &config, parameters, &mut metadata)?;
    config.write_keys(&mut metadata)?;
    tokenizer::write_keys(folder, &config, &mut metadata)?;
    let row_bytes = tensors.iter().map(|t| t.info.row_bytes()).collect();
    let rows = Box::new(FolderRows {
        checkpoint,
        contents,
        row_bytes,
    });
    Ok(Source {
        path: folder.to_owned(),
        metadata,
        tensors,
        rows,
    })
}

/// The tensor that fills `slot`, checked against its shape.
fn stored<'c>(checkpoint: &'c Checkpoint, name: &str, slot: &Slot) -> Result<&'c StoredTensor> {
    let Some(stored) = checkpoint.tensor(name) else {
        bail!("{}: tensor {name} is missing", checkpoint.path().display());
    };
    if stored.shape != slot.shape {
        bail!(
            "{}: tensor {name} has the shape {:?}, but config.json asks for {:?}",
            checkpoint.path().display(),
            stored.shape,
            slot.shape
        );
    }
    Ok(stored)
}

/// Where the bytes of a tensor come from.
enum Content {
    Stored {
        tensor: StoredTensor,
        heads: Option<u64>,
    },
    Computed(Vec<u8>),
}

struct FolderRows {
    checkpoint: Checkpoint,
    contents: Vec<Content>,
    row_bytes: Vec<u64>,
}

impl Rows for FolderRows {
    fn read(&self, tensor: usize, first_row: u64, buffer: &mut [u8]) -> Result<()> {
        let row_bytes = self.row_bytes[tensor];
        match &self.contents[tensor] {
            Content::Computed(bytes) => {
                let start = (first_row * row_bytes) as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Content::Stored {
                tensor,
                heads: None,
            } => self.checkpoint.read(tensor, first_row * row_bytes, buffer),
            // A bias is one row whose elements are what a weight's rows are.
            Content::Stored {
                tensor,
                heads: Some(heads),
            } if tensor.shape.len() == 1 => {
                let element_bytes = row_bytes / tensor.shape[0];
                let mut whole = vec![0; row_bytes as usize];
                self.checkpoint.read(tensor, 0, &mut whole)?;
                for (i, element) in buffer.chunks_mut(element_bytes as usize).enumerate() {
                    let from = layout::rotary_row(i as u64, tensor.shape[0] / heads);
                    let from = (from * element_bytes) as usize;
                    element.copy_from_slice(&whole[from..from + element_bytes as usize]);
                }
                Ok(())
            }
            Content::Stored {
                tensor,
                heads: Some(heads),
            } => {
                for (i, row) in buffer.chunks_mut(row_bytes as usize).enumerate() {
                    let from = layout::rotary_row(first_row + i as u64, tensor.shape[0] / heads);
                    self.checkpoint.read(tensor, from * row_bytes, row)?;
                }
                Ok(())
            }
        }
    }
}
