//! Reads a Hugging Face folder as a model: config.json, tokenizer.json and safetensors, of the
//! architectures qwen2, qwen3, llama and deepseek2.
//!
//! In: a folder. Out: a [`Source`] with GGUF's keys and tensor names, equal to what llama.cpp's
//! `convert_hf_to_gguf.py` writes. It must never guess: a tensor that is missing, unknown or of
//! another shape than config.json says is an error, and so is a tokenizer that is not known here.

mod config;
mod content;
mod fp8;
mod general;
mod graph;
mod json_file;
mod layout;
mod mixture;
mod model_card;
mod model_name;
mod pre_tokenizer;
mod rope;
mod safetensors;
mod tokenizer;

use std::path::Path;

use anyhow::{Result, bail};
use cloister_gguf::{Metadata, TensorInfo, TensorType};

use crate::source::{Place, Rows, Source, SourceTensor};
use config::Config;
use content::Content;
use safetensors::Checkpoint;

/// Opens the model in `folder`.
pub fn open(folder: &Path) -> Result<Source> {
    let config = Config::read(folder)?;
    let checkpoint = Checkpoint::open(folder)?;
    let slots = layout::slots(&config, &checkpoint)?;

    let mut tensors = Vec::new();
    let mut contents = Vec::new();
    for slot in slots {
        // PyTorch's [rows, row length] is GGUF's [row length, rows].
        let dims: Vec<u64> = slot.shape.iter().rev().copied().collect();
        let Some(info) = TensorInfo::new(slot.gguf_name, dims, slot.content.tensor_type()) else {
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
        contents.push(slot.content);
    }

    let mut metadata = Metadata::default();
    metadata.set("general.architecture", config.architecture());
    metadata.set("general.type", "model");
    general::write_keys(folder, &config, &tensors, &mut metadata)?;
    config.write_keys(&mut metadata)?;
    tokenizer::write_keys(folder, &config, &mut metadata)?;
    let rows = Box::new(FolderRows {
        checkpoint,
        contents,
    });
    Ok(Source {
        path: folder.to_owned(),
        metadata,
        tensors,
        rows,
    })
}

struct FolderRows {
    checkpoint: Checkpoint,
    contents: Vec<Content>,
}

impl Rows for FolderRows {
    fn read(&self, tensor: usize, first_row: u64, buffer: &mut [u8]) -> Result<()> {
        self.contents[tensor].read(&self.checkpoint, first_row, buffer)
    }

    fn stored_at(&self, tensor: usize, row: u64, column: u64) -> Option<Place> {
        self.contents[tensor].stored_at(&self.checkpoint, row, column)
    }
}
