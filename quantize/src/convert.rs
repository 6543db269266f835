//! `cloister-quantize convert`: a source in, a GGUF file of the wanted type out.
//!
//! Rows are read, dequantized, checked, quantized, checked again and written a slab at a time, so
//! that memory does not grow with the model. It must never write weights that are not finite, and
//! never leave an unfinished file: that is `cloister_gguf::Writer`'s promise.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use anyhow::{Context, Result, anyhow, bail};
use cloister_gguf::{TensorInfo, Writer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::file_type::FileType;
use crate::ggml;
use crate::source::Source;
use crate::type_mix;

/// Bytes of output that are made before they are written.
const SLAB_BYTES: u64 = 16 << 20;

/// Elements that one thread works on at a time: large enough to make locking cheap, small enough
/// for its F32 to stay in the cache.
const CHUNK_ELEMENTS: u64 = 128 << 10;

/// The version of ggml's quantized formats: `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// Converts the model at `source` into the new file `out`.
pub fn convert(source_path: &Path, out: &Path, file_type: FileType) -> Result<()> {
    check_out(source_path, out)?;
    let interrupted = interruption()?;
    let mut source = Source::open(source_path)?;
    let shape = source.shape()?;

    let infos: Vec<&TensorInfo> = source.tensors.iter().map(|t| &t.info).collect();
    let chosen = type_mix::choose(file_type, &shape, &infos);
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
    let mut writer = Writer::create(out, &source.metadata, targets.clone())?;
    note(&source, &targets, file_type);
    let progress = progress_bar(targets.iter().map(TensorInfo::bytes).sum());
    for (index, target) in targets.iter().enumerate() {
        progress.set_message(target.name.clone());
        let tensor = TensorJob {
            source: &source,
            index,
            target,
        };
        tensor.run(&mut writer, &interrupted, &progress)?;
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

/// One tensor on its way through.
struct TensorJob<'s> {
    source: &'s Source,
    index: usize,
    target: &'s TensorInfo,
}

impl TensorJob<'_> {
    fn run(&self, writer: &mut Writer, stop: &AtomicBool, progress: &ProgressBar) -> Result<()> {
        let (rows, row_bytes) = (self.target.rows(), self.target.row_bytes());
        let slab_rows = (SLAB_BYTES / row_bytes).clamp(1, rows);
        let mut slab = vec![0; (slab_rows * row_bytes) as usize];
        let mut first_row = 0;
        while first_row < rows {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted; nothing was written");
            }
            let slab_rows = slab_rows.min(rows - first_row);
            let slab = &mut slab[..(slab_rows * row_bytes) as usize];
            self.fill(first_row, slab)?;
            writer.write(slab)?;
            progress.inc(slab.len() as u64);
            first_row += slab_rows;
        }
        Ok(())
    }

    /// Fills a slab with rows from `first_row` on, on all cores that the process may use.
    fn fill(&self, first_row: u64, slab: &mut [u8]) -> Result<()> {
        let row_bytes = self.target.row_bytes();
        let chunk_rows = (CHUNK_ELEMENTS / self.target.row_elements()).max(1);
        let chunk_bytes = (chunk_rows * row_bytes) as usize;
        let threads = available_parallelism().map_or(1, usize::from);
        let threads = threads.min(slab.len().div_ceil(chunk_bytes));

        let chunks = Mutex::new(slab.chunks_mut(chunk_bytes).enumerate());
        let work = || -> Result<()> {
            let mut buffers = Buffers::default();
            loop {
                let next = chunks
                    .lock()
                    .map_err(|_| anyhow!("another thread failed"))?
                    .next();
                let Some((number, chunk)) = next else {
                    return Ok(());
                };
                self.chunk(first_row + number as u64 * chunk_rows, chunk, &mut buffers)?;
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let joined = others
                .into_iter()
                .map(|t| t.join().expect("a worker panicked"));
            joined.fold(mine, Result::and)
        })
    }

    /// Fills `out` with whole rows from `first_row` on.
    fn chunk(&self, first_row: u64, out: &mut [u8], buffers: &mut Buffers) -> Result<()> {
        let from = &self.source.tensors[self.index].info;
        let to = self.target.tensor_type;
        let rows = out.len() as u64 / self.target.row_bytes();
        let elements = (rows * from.row_elements()) as usize;
        if from.tensor_type == to {
            self.source.rows.read(self.index, first_row, out)?;
            if ggml::can_be_read(to) {
                let (_, values) = buffers.of(0, elements);
                ggml::to_f32(to, out, values);
                self.check_finite(values, first_row)?;
            }
            return Ok(());
        }
        let (bytes, values) = buffers.of((rows * from.row_bytes()) as usize, elements);
        self.source.rows.read(self.index, first_row, bytes)?;
        ggml::to_f32(from.tensor_type, bytes, values);
        self.check_finite(values, first_row)?;
        ggml::from_f32(to, values, from.row_elements(), out);
        // Scales are F16: weights beyond its range would make a file that answers in NaN.
        ggml::to_f32(to, out, values);
        if values.iter().any(|v| !v.is_finite()) {
            let (path, name) = (self.source.path.display(), &from.name);
            bail!("{path}: tensor {name}: its values are too large for {to}");
        }
        Ok(())
    }

    fn check_finite(&self, values: &[f32], first_row: u64) -> Result<()> {
        let Some(at) = values.iter().position(|v| !v.is_finite()) else {
            return Ok(());
        };
        let row_elements = self.target.row_elements();
        bail!(
            "{}: tensor {}: {} at row {}, column {}; the checkpoint is damaged",
            self.source.path.display(),
            self.target.name,
            values[at],
            first_row + at as u64 / row_elements,
            at as u64 % row_elements,
        )
    }
}

/// A worker's memory, kept from chunk to chunk.
#[derive(Default)]
struct Buffers {
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
