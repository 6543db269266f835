//! `cloister-quantize convert`: a source in, a GGUF file of the wanted type out.
//!
//! Here the work is planned and reported; `pipeline` does it and `chunk` is a piece of it. It must
//! never write weights that are not finite, and never leave an unfinished file under the final name:
//! that is `cloister_gguf::Writer`'s promise.

mod chunk;
mod pipeline;

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use cloister_gguf::{TensorInfo, Writer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::file_type::FileType;
use crate::ggml;
use crate::imatrix_file::ImatrixFile;
use crate::source::Source;
use crate::type_mix::{self, Recipe};
use pipeline::Outcome;

/// The version of ggml's quantized formats: `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// Converts the model at `source` into the new file `out`, with the importance matrix in the file
/// `imatrix` if there is one.
pub fn convert(
    source_path: &Path,
    out: &Path,
    mut recipe: Recipe,
    imatrix: Option<&Path>,
) -> Result<()> {
    let file_type = recipe.file_type;
    check_out(source_path, out)?;
    let interrupted = interruption()?;
    let mut source = Source::open(source_path)?;
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
                source_path.display(),
                tensor.info.name
            );
        }
        let info = TensorInfo::new(&tensor.info.name, tensor.info.dims.clone(), target);
        targets.push(info.expect("a type that fits the rows was chosen"));
    }
    source
        .metadata
        .set("general.quantization_version", QUANTIZATION_VERSION);
    source.metadata.set("general.file_type", file_type.number());
    if let Some(imatrix) = &imatrix {
        imatrix.record(&mut source.metadata);
    }
    let mut writer = Writer::create(out, &source.metadata, targets.clone())?;
    note(&source, &targets, file_type);
    let progress = progress_bar(targets.iter().map(TensorInfo::bytes).sum());
    let mut current = usize::MAX;
    let outcome = pipeline::run(
        &source,
        &targets,
        imatrix.as_ref(),
        &mut writer,
        &interrupted,
        |tensor, bytes| {
            if tensor != current {
                current = tensor;
                progress.set_message(targets[tensor].name.clone());
            }
            progress.inc(bytes);
        },
    )?;
    if outcome == Outcome::Stopped {
        bail!("interrupted; nothing was written");
    }
    writer.finish()?;
    progress.finish_and_clear();

    let bytes: u64 = targets.iter().map(TensorInfo::bytes).sum();
    let weights: u64 = targets.iter().map(TensorInfo::elements).sum();
    println!(
        "{}: {file_type}, {:.1} MB of weights, {:.2} bits per weight",
        out.display(),
        bytes as f64 / 1e6,
        bytes as f64 * 8.0 / weights as f64
    );
    Ok(())
}

/// Refuses outputs that would destroy the source or cannot be a file.
fn check_out(source: &Path, out: &Path) -> Result<()> {
    let Ok(there) = fs::metadata(out) else {
        return Ok(());
    };
    if there.is_dir() {
        bail!("{}: is a folder; name the file to write", out.display());
    }
    let same = |other: fs::Metadata| (other.dev(), other.ino()) == (there.dev(), there.ino());
    if fs::metadata(source).is_ok_and(same) {
        bail!(
            "{}: is the source itself; write to another file",
            out.display()
        );
    }
    Ok(())
}

/// A flag that Ctrl-C and SIGTERM set.
fn interruption() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, flag.clone()).context("cannot catch signals")?;
    }
    Ok(flag)
}

/// Says, on a line each, what a person would want to know of the result's quality.
fn note(source: &Source, targets: &[TensorInfo], file_type: FileType) {
    if source.is_quantized() && file_type.base().is_quantized() {
        eprintln!(
            "note: {} is quantized already; quantizing it again loses quality",
            source.path.display()
        );
    }
    let block = file_type.base().block_elements();
    let fallbacks = targets
        .iter()
        .filter(|t| type_mix::is_quantizable(t) && !t.row_elements().is_multiple_of(block));
    let count = fallbacks.count();
    if count > 0 {
        eprintln!(
            "note: the rows of {count} tensors fill no {} blocks; they get the next type that fits",
            file_type.base()
        );
    }
}

fn progress_bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}");
    ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is sound"))
}
