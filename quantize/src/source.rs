//! What `convert` reads from: a model as metadata and tensors, whatever it is stored in.
//!
//! In: a path to a GGUF file or a Hugging Face folder. Out: a [`Source`]. It must never hold a whole
//! tensor in memory: rows are read when they are asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cloister_gguf::{Gguf, Metadata, TensorInfo, TensorType};

use crate::hugging_face;
use crate::type_mix::ModelShape;

/// Architectures that can be converted.
pub const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "deepseek2"];

/// A model that can be read row by row.
pub struct Source {
    /// Where it is, for errors.
    pub path: PathBuf,
    /// GGUF metadata, ready to be written.
    pub metadata: Metadata,
    /// The tensors, in the order in which they are to be written.
    pub tensors: Vec<SourceTensor>,
    /// Their contents.
    pub rows: Box<dyn Rows>,
}

/// A tensor of a source.
#[derive(Debug, Clone)]
pub struct SourceTensor {
    /// GGUF name, dimensions and stored type.
    pub info: TensorInfo,
    /// The type it gets if it is none that is quantized.
    pub kept: TensorType,
}

/// Reads rows of a source's tensors. Called from several threads at once.
pub trait Rows: Send + Sync {
    /// Fills `buffer` with rows of tensor number `tensor`, from row `first_row` on.
    fn read(&self, tensor: usize, first_row: u64, buffer: &mut [u8]) -> Result<()>;

    /// Where an element of a tensor is stored, for errors, if that is another tensor of other files.
    fn stored_at(&self, _tensor: usize, _row: u64, _column: u64) -> Option<Place> {
        None
    }
}

/// An element of a stored tensor.
pub struct Place {
    pub file: PathBuf,
    pub tensor: String,
    pub row: u64,
    pub column: u64,
}

impl Source {
    /// Opens a GGUF file or a Hugging Face folder.
    pub fn open(path: &Path) -> Result<Source> {
        if path.is_dir() {
            hugging_face::open(path)
        } else {
            Source::from_gguf(Gguf::open(path)?)
        }
    }

    fn from_gguf(gguf: Gguf) -> Result<Source> {
        let path = gguf.path().to_owned();
        check_architecture(&path, gguf.require_str("general.architecture")?)?;
        let tensors = gguf.tensors.iter();
        let tensors = tensors
            .map(|t| SourceTensor {
                info: t.clone(),
                kept: t.tensor_type,
            })
            .collect();
        let mut metadata = gguf.metadata.clone();
        for key in ["split.no", "split.count", "split.tensors.count"] {
            metadata.remove(key);
        }
        Ok(Source {
            path,
            metadata,
            tensors,
            rows: Box::new(gguf),
        })
    }

    /// Where an element is stored: the person who has the file finds it there.
    pub fn stored_at(&self, tensor: usize, row: u64, column: u64) -> Place {
        self.rows
            .stored_at(tensor, row, column)
            .unwrap_or_else(|| Place {
                file: self.path.clone(),
                tensor: self.tensors[tensor].info.name.clone(),
                row,
                column,
            })
    }

    /// True if weights have been through a quantizer already.
    pub fn is_quantized(&self) -> bool {
        self.tensors
            .iter()
            .any(|t| t.info.tensor_type.is_quantized())
    }

    /// The shape that decides the mix of types, from the metadata.
    pub fn shape(&self) -> Result<ModelShape> {
        let path = self.path.display();
        let architecture = self
            .metadata
            .str("general.architecture")
            .unwrap_or_default();
        let number = |key: &str| {
            let key = format!("{architecture}.{key}");
            match self.metadata.get(&key) {
                Some(value) => match value.as_u64() {
                    Some(n) if n > 0 => Ok(Some(n)),
                    _ => bail!("{path}: key {key}: a positive whole number is needed"),
                },
                None => Ok(None),
            }
        };
        let required = |key| {
            number(key)?.with_context(|| format!("{path}: key {architecture}.{key} is missing"))
        };
        let experts = match self.metadata.get(&format!("{architecture}.expert_count")) {
            Some(count) => count.as_u64().with_context(|| {
                format!("{path}: key {architecture}.expert_count: a whole number is needed")
            })?,
            None => 0,
        };
        if experts != 0 && architecture != "deepseek2" {
            bail!("{path}: a mixture of experts, which cannot be converted");
        }
        let heads = required("attention.head_count")?;
        Ok(ModelShape {
            architecture: architecture.to_owned(),
            layers: required("block_count")?,
            heads,
            heads_kv: number("attention.head_count_kv")?.unwrap_or(heads),
            experts,
        })
    }
}

/// Fails for an architecture whose tensors and rules are not known here. `path` is for the error.
pub fn check_architecture(path: &Path, architecture: &str) -> Result<()> {
    if ARCHITECTURES.contains(&architecture) {
        return Ok(());
    }
    let known = ARCHITECTURES.join(" and ");
    bail!(
        "{}: the architecture {architecture:?} cannot be converted; {known} can",
        path.display()
    )
}

impl Rows for Gguf {
    fn read(&self, tensor: usize, first_row: u64, buffer: &mut [u8]) -> Result<()> {
        let tensor = &self.tensors[tensor];
        Ok(self.read_tensor(tensor, first_row * tensor.row_bytes(), buffer)?)
    }
}
