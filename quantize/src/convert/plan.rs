//! What a conversion is going to write, before any of it is written.
//!
//! In: a source, a recipe, an importance matrix. Out: the [`Plan`]: every tensor's type, every key.
//! What can be known to fail fails here. It must never read weights.

use std::path::Path;

use anyhow::{Result, bail};
use cloister_gguf::{TensorInfo, file_size};

use crate::file_type::FileType;
use crate::fit::{self, Bytes};
use crate::ggml;
use crate::imatrix_file::ImatrixFile;
use crate::running::Running;
use crate::source::Source;
use crate::type_mix::{ModelShape, Recipe};

/// The version of ggml's quantized formats: `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// What a plan is made from, opened and checked.
pub struct Inputs {
    source: Source,
    shape: ModelShape,
    imatrix: Option<ImatrixFile>,
}

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
    /// Tensors that get the next type that fits instead of the one meant for them.
    pub fallbacks: usize,
}

impl Inputs {
    /// Opens the model at `path`, and the importance matrix in the file `imatrix` if there is one.
    pub fn open(path: &Path, imatrix: Option<&Path>) -> Result<Inputs> {
        let source = Source::open(path)?;
        let shape = source.shape()?;
        let imatrix = imatrix.map(ImatrixFile::open).transpose()?;
        let inputs = Inputs {
            source,
            shape,
            imatrix,
        };
        if let Some(imatrix) = &inputs.imatrix {
            imatrix.check(&inputs.infos())?;
        }
        Ok(inputs)
    }

    fn infos(&self) -> Vec<&TensorInfo> {
        self.source.tensors.iter().map(|t| &t.info).collect()
    }

    fn recipe_here(&self, recipe: &Recipe) -> Recipe {
        Recipe {
            has_imatrix: self.imatrix.is_some(),
            ..recipe.clone()
        }
    }

    /// The tensors that `recipe` makes of the source's, and whether that is without an importance
    /// matrix what it should not be.
    fn targets(&self, recipe: &Recipe) -> Result<(Vec<TensorInfo>, Result<()>)> {
        let infos = self.infos();
        let recipe = self.recipe_here(recipe);
        let chosen = recipe.choose(&self.shape, &infos);
        let importance = recipe.check_importance(&infos, &chosen, |name| {
            self.imatrix.as_ref().is_some_and(|i| i.has(name))
        });
        let mut targets = Vec::with_capacity(chosen.len());
        for (tensor, chosen) in self.source.tensors.iter().zip(chosen) {
            let target = chosen.unwrap_or(tensor.kept);
            let from = tensor.info.tensor_type;
            if from != target && !ggml::can_be_read(from) {
                bail!(
                    "{}: tensor {}: type {from} cannot be converted to {target}",
                    self.source.path.display(),
                    tensor.info.name
                );
            }
            let info = TensorInfo::new(&tensor.info.name, tensor.info.dims.clone(), target);
            targets.push(info.expect("a type that fits the rows was chosen"));
        }
        Ok((targets, importance))
    }

    /// The best of what `recipe` can be made whose model runs in `room`; prints the table of those weighed.
    pub fn fit(&self, room: Bytes, recipe: &Recipe, running: &Running) -> Result<Recipe> {
        let recipe = self.recipe_here(recipe);
        fit::choose(
            room,
            running,
            &self.shape,
            &self.source.metadata,
            &recipe,
            |recipe| {
                let (targets, importance) = self.targets(recipe)?;
                Ok((targets, importance.is_err()))
            },
        )
    }

    /// Plans the conversion.
    pub fn plan(mut self, recipe: &Recipe) -> Result<Plan> {
        recipe.check_effect(&self.shape, &self.infos())?;
        let (targets, importance) = self.targets(recipe)?;
        importance?;
        let fallbacks = self
            .recipe_here(recipe)
            .fallbacks(&self.shape, &self.infos());
        let metadata = &mut self.source.metadata;
        metadata.set("general.quantization_version", QUANTIZATION_VERSION);
        metadata.set("general.file_type", recipe.file_type.number());
        if let Some(imatrix) = &self.imatrix {
            imatrix.record(metadata);
        }
        Ok(Plan {
            source: self.source,
            targets,
            imatrix: self.imatrix,
            file_type: recipe.file_type,
            fallbacks,
        })
    }
}

impl Plan {
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

#[cfg(test)]
#[path = "published_tests.rs"]
mod published_tests;
