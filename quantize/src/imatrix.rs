//! `cloister-quantize imatrix`: runs a text through a model and collects, for each column of each
//! weight, the squares of the activations that meet it: which columns matter most when bits are few.
//!
//! In: a model and a text. Out: a file as `llama-imatrix` writes it, collected by the same rules, for
//! `convert --imatrix` or `llama-quantize --imatrix`. It must never write sums that are not finite.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use cloister_engine::evaluate::{Evaluator, Inputs, MatMul, MatMulObserver};
use cloister_program::output;

use crate::imatrix_file::{Entry, Imatrix};
use crate::text_windows::{Text, note_long_windows};

/// Fewest tokens that must go into a multiplication together for it to count.
const MIN_TOKENS: usize = 16;

/// Collects the importance matrix of the model at `path` on a text into the new file `out`.
pub fn imatrix(
    path: &Path,
    text_path: &Path,
    out: &Path,
    n_ctx: u32,
    chunks: Option<usize>,
) -> Result<()> {
    check_out(out, [path, text_path])?;
    let text = Text::read(text_path)?;
    let collector = Collector::default();
    let mut model = Evaluator::load(path, n_ctx, Some(Box::new(collector.clone())))?;
    note_long_windows(&model, path, n_ctx);
    let windows = text.windows(&model, n_ctx as usize, chunks)?;
    let progress = windows.progress_bar();
    for window in windows.iter() {
        model.begin_window();
        for batch in window.chunks(model.n_batch()) {
            // All logits are asked for: what the last layer computes is cut down to the tokens that
            // somebody wants logits of.
            model.compute(batch, 0)?;
        }
        if let Some(weight) = collector.lock().not_finite.take() {
            bail!(
                "{}: activations that are not finite meet {weight}; the model is damaged, or overflows on this text",
                path.display()
            );
        }
        progress.inc(1);
    }
    progress.finish_and_clear();

    let mut collected = std::mem::take(&mut *collector.lock());
    drop(model);
    if collected.imatrix.entries.is_empty() {
        bail!(
            "{}: no weight of a layer was multiplied with {MIN_TOKENS} tokens or more; there is nothing to collect",
            path.display()
        );
    }
    collected.imatrix.datasets = vec![text_path.to_string_lossy().into_owned()];
    collected.imatrix.chunk_count = windows.count() as u32;
    collected.imatrix.chunk_size = n_ctx;
    collected.imatrix.write(out)?;
    report(&collected.imatrix, out)
}

/// Says what was collected, and where a text was too short or too narrow for all experts.
fn report(imatrix: &Imatrix, out: &Path) -> Result<()> {
    let counts = || imatrix.entries.values().flat_map(|entry| &entry.counts);
    let idle = counts().filter(|count| **count == 0).count();
    if idle > 0 {
        eprintln!(
            "note: {idle} of {} matrices met no token, each an expert that was never chosen; use a longer text",
            counts().count()
        );
    }
    output::print(format_args!(
        "{}: {} weights, {} windows of {} tokens",
        out.display(),
        imatrix.entries.len(),
        imatrix.chunk_count,
        imatrix.chunk_size
    ))?;
    Ok(())
}

/// Refuses, before anything is computed, what could not be written afterwards.
fn check_out(out: &Path, sources: [&Path; 2]) -> Result<()> {
    if out.is_dir() {
        bail!("{}: is a folder; name the file to write", out.display());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("{}: there is no such folder", folder.display());
    }
    let there = out.canonicalize().ok();
    for source in sources {
        if there.is_some() && source.canonicalize().ok() == there {
            bail!(
                "{}: is read by this command; write to another file",
                out.display()
            );
        }
    }
    Ok(())
}

/// What has been collected so far, shared with the context that shows its multiplications.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    imatrix: Imatrix,
    /// A weight whose sums became infinite or NaN.
    not_finite: Option<String>,
}

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MatMulObserver for Collector {
    fn wants(&mut self, mat_mul: &MatMul<'_>) -> bool {
        let counts =
            mat_mul.routed || (mat_mul.tokens >= MIN_TOKENS && mat_mul.weight.starts_with("blk."));
        counts && mat_mul.is_f32
    }

    fn observe(&mut self, mat_mul: &MatMul<'_>, inputs: &Inputs<'_>) {
        let mut collected = self.lock();
        let columns = mat_mul.row_elements;
        if !collected.imatrix.entries.contains_key(mat_mul.weight) {
            let entry = Entry {
                sums: vec![0.0; columns * mat_mul.matrices],
                // A stack that every token passes, such as the heads of MLA, has one count for all.
                counts: vec![0; if mat_mul.routed { mat_mul.matrices } else { 1 }],
            };
            let name = mat_mul.weight.to_owned();
            collected.imatrix.entries.insert(name, entry);
        }
        let entry = collected.imatrix.entries.get_mut(mat_mul.weight);
        let entry = entry.expect("it was just put there");
        let mut rows = 0;
        inputs.for_each_row(|matrix, row| {
            let sums = &mut entry.sums[matrix * columns..][..columns];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x * x;
            }
            rows += 1;
            if mat_mul.routed {
                entry.counts[matrix] += 1;
            }
        });
        if !mat_mul.routed {
            entry.counts[0] += rows / mat_mul.matrices as u64;
        }
        if !entry.sums.iter().all(|sum| sum.is_finite()) {
            collected.not_finite = Some(mat_mul.weight.to_owned());
        }
    }
}
