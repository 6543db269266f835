//! `cloister-quantize convert`: a source in, a GGUF file of the wanted type out.
//!
//! `plan` decides what is to be written, `pipeline` writes it, `chunk` is a piece of it; here the two
//! meet the file, and what ends early is kept or removed. It must never write weights that are not
//! finite, and never leave an unfinished file under the final name: that is
//! `cloister_gguf::Writer`'s promise.

mod chunk;
mod dry_run;
mod identity;
mod pipeline;
mod plan;
mod space;

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, bail};
use cloister_gguf::{Writer, partial_path};
use cloister_program::output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fit::Bytes;
use crate::running::Running;
use crate::type_mix::Recipe;
use pipeline::Outcome;
use plan::{Inputs, Plan};

/// What a person asks for.
#[derive(Debug)]
pub struct Job<'a> {
    /// A GGUF file or a Hugging Face folder.
    pub source: &'a Path,
    /// The file to write.
    pub out: &'a Path,
    /// Which tensor gets which type.
    pub recipe: Recipe,
    /// The memory that decides the recipe's file type.
    pub fit: Option<Bytes>,
    /// The file of an importance matrix.
    pub imatrix: Option<&'a Path>,
    /// Go on with what an earlier run of the same job left, if it left something.
    pub resume: bool,
    /// Only say what would be written.
    pub dry_run: bool,
    /// How the model is to run.
    pub running: Running,
}

/// Converts a model into a new file.
pub fn convert(job: Job) -> Result<()> {
    let Job { source, out, .. } = job;
    let mut recipe = job.recipe.clone();
    check_out(source, out)?;
    let interrupted = interruption()?;
    // Before the source is read, so that what changes meanwhile is noticed.
    let mut identity = identity::of_files(source, job.imatrix)?;
    let inputs = Inputs::open(source, job.imatrix)?;
    if let Some(room) = job.fit {
        recipe = inputs.fit(room, &recipe, &job.running)?;
    }
    identity.extend(identity::of_recipe(&recipe));
    let plan = inputs.plan(&recipe)?;

    if job.dry_run {
        note(&plan, &job);
        output::print(dry_run::table(&plan, &job.running)?)?;
        return space::check(out, plan.file_size());
    }

    space::check(out, plan.file_size())?;
    let metadata = &plan.source.metadata;
    let begun = match job.resume {
        true => Writer::resume(out, metadata, plan.targets.clone(), &identity)?,
        false => None,
    };
    let resumed = begun.is_some();
    let mut writer = match begun {
        Some(writer) => writer,
        None => Writer::create_resumable(out, metadata, plan.targets.clone(), &identity)?,
    };
    note(&plan, &job);
    if resumed {
        let (there, all) = (megabytes(writer.end()), megabytes(writer.size()));
        eprintln!("note: goes on behind the first {there} of {all}");
    }

    let progress = progress_bar(writer.size());
    progress.set_position(writer.end());
    progress.reset_eta();
    let mut current = usize::MAX;
    let outcome = pipeline::run(
        &plan.source,
        &plan.targets,
        plan.imatrix.as_ref(),
        &mut writer,
        &interrupted,
        |tensor, bytes| {
            if tensor != current {
                current = tensor;
                progress.set_message(plan.targets[tensor].name.clone());
            }
            progress.inc(bytes);
        },
    );
    progress.finish_and_clear();
    match outcome {
        Ok(Outcome::Complete) => writer.finish()?,
        Ok(Outcome::Stopped) => return Err(keep(writer, out, anyhow!("interrupted"))),
        Err(error) if is_of_the_system(&error) => return Err(keep(writer, out, error)),
        Err(error) => {
            writer.discard();
            return Err(error);
        }
    }

    output::print(format_args!(
        "{}: {}, {} of weights, {:.2} bits per weight",
        out.display(),
        plan.file_type,
        megabytes(plan.bytes()),
        plan.bits_per_weight()
    ))?;
    Ok(())
}

/// Keeps what is written, and adds to `error` how to go on with it.
fn keep(writer: Writer, out: &Path, error: anyhow::Error) -> anyhow::Error {
    let all = megabytes(writer.size());
    let there = match writer.keep() {
        Ok(bytes) if bytes > 0 => format!("{} of {all}", megabytes(bytes)),
        // The disk takes not even the journal: the one before it holds.
        _ => "what is safe on the disk".to_owned(),
    };
    let partial = partial_path(out).expect("it was written to");
    let partial = partial.display();
    anyhow!("{error:#}; {there} stays as {partial}: go on with --resume")
}

/// Whether an error is the system's and may not come again: a full disk, a disk that was pulled out.
fn is_of_the_system(error: &anyhow::Error) -> bool {
    use cloister_gguf::Error::Io;
    error.chain().any(|cause| {
        cause.is::<io::Error>()
            || matches!(
                cause.downcast_ref::<cloister_gguf::Error>(),
                Some(Io { .. })
            )
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Refuses outputs that would destroy the source or cannot be a file.
fn check_out(source: &Path, out: &Path) -> Result<()> {
    if fs::metadata(out).is_ok_and(|there| there.is_dir()) {
        bail!("{}: is a folder; name the file to write", out.display());
    }
    if let Some(folder) = out.parent().filter(|f| *f != Path::new("")) {
        fs::metadata(folder).with_context(|| format!("{}: its folder", out.display()))?;
    }
    let Ok(source) = fs::metadata(source) else {
        return Ok(()); // which is said when it is opened
    };
    for path in [out.to_owned(), partial_path(out)?] {
        let same = |other: fs::Metadata| (other.dev(), other.ino()) == (source.dev(), source.ino());
        if fs::metadata(&path).is_ok_and(same) {
            bail!(
                "{}: is the source itself; write to another file",
                path.display()
            );
        }
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
fn note(plan: &Plan, job: &Job) {
    let (source, file_type) = (&plan.source, plan.file_type);
    if source.is_quantized() && file_type.base().is_quantized() {
        eprintln!(
            "note: {} is quantized already; quantizing it again loses quality",
            source.path.display()
        );
    }
    if plan.fallbacks > 0 {
        eprintln!(
            "note: the rows of {} tensors fill no blocks of the type meant for them; they get the \
             next type that fits",
            plan.fallbacks
        );
    }
    if job.fit.is_some() && job.imatrix.is_none() && file_type.suffers_without_imatrix() {
        eprintln!(
            "note: {file_type} without an importance matrix loses much quality: give one with \
             --imatrix, or take a smaller model of more bits"
        );
    }
    let architecture = source.metadata.str("general.architecture");
    let trained =
        architecture.and_then(|name| source.metadata.u64(&format!("{name}.context_length")));
    let counts = job.fit.is_some() || job.dry_run; // nothing else depends on it
    if let Some(trained) = trained.filter(|&n| counts && u64::from(job.running.ctx) > n) {
        eprintln!(
            "note: --ctx {} is beyond the {trained} tokens of context that the model was made for",
            job.running.ctx
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
