//! What a conversion is going to write, before any of it is written.
//!
//! In: a source, a recipe, an importance matrix. Out: the [`Plan`]: every tensor's type, every key.
//! What can be known to fail fails here. It must never read weights.

use std::path::Path;

use anyhow::{Result, bail};
use cloister_gguf::{TensorInfo, file_size};

use crate::file_type::FileType;
use crate::ggml;
use crate::imatrix_file::ImatrixFile;
use crate::source::Source;
use crate::type_mix::Recipe;

/// The version of ggml's quantized formats: `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// What is to be written, and from what.
pub struct Plan {
    /// Where the weights come from; its metadata is the output's.
    pub source: Source,
    /// The tensors of the output, in the order of the file and of the source.
    pub targets: Vec<TensorInfo>,
    /// How much each column counts.
    pub imatrix: Option<ImatrixFile>,
    /// The type that was asked for.
    pub file_type: FileType,
}

impl Plan {
    /// Plans the conversion of the model at `path`, with the importance matrix in the file `imatrix`
    /// if there is one.
    pub fn of(path: &Path, mut recipe: Recipe, imatrix: Option<&Path>) -> Result<Plan> {
        let mut source = Source::open(path)?;
        let shape = source.shape()?;
        let infos: Vec<&TensorInfo> = source.tensors.iter().map(|t| &t.info).collect();
        let imatrix = imatrix.map(ImatrixFile::open).transpose()?;
        if let Some(imatrix) = &imatrix {
            imatrix.check(&infos)?;
        }
        recipe.has_imatrix = imatrix.is_some();
        let chosen = recipe.choose(&shape, &infos);
        recipe.check_importance(&infos, &chosen, |name| {
            imatrix.as_ref().is_some_and(|i| i.has(name))
        })?;
        let mut targets = Vec::with_capacity(chosen.len());
        for (tensor, chosen) in source.tensors.iter().zip(chosen) {
            let target = chosen.unwrap_or(tensor.kept);
            let from = tensor.info.tensor_type;
            if from != target && !ggml::can_be_read(from) {
                bail!(
                    "{}: tensor {}: type {from} cannot be converted to {target}",
                    path.display(),
                    tensor.info.name
                );
            }
            let info = TensorInfo::new(&tensor.info.name, tensor.info.dims.clone(), target);
            targets.push(info.expect("a type that fits the rows was chosen"));
        }
        let metadata = &mut source.metadata;
        metadata.set("general.quantization_version", QUANTIZATION_VERSION);
        metadata.set("general.file_type", recipe.file_type.number());
        if let Some(imatrix) = &imatrix {
            imatrix.record(metadata);
        }
        Ok(Plan {
            source,
            targets,
            imatrix,
            file_type: recipe.file_type,
        })
    }

    /// Bytes of the whole file.
    pub fn file_size(&self) -> u64 {
        file_size(&self.source.metadata, self.targets.clone())
    }

    /// Bytes of all tensors, without padding.
    pub fn bytes(&self) -> u64 {
        self.targets.iter().map(TensorInfo::bytes).sum()
    }

    /// Bits that a weight takes on average.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.targets.iter().map(TensorInfo::elements).sum();
        self.bytes() as f64 * 8.0 / weights as f64
    }
}
