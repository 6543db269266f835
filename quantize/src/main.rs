//! `cloister-quantize`: checkpoints in, low-bit GGUF out. Offline, no service, and sealed: it opens what it was given
//! and nothing else.
//!
//! Exit codes: 0 done, 2 wrong use, 1 anything else; each failure is one line on stderr.

// A reader that goes away must not end a program; `output::print` lets it go.
#![deny(clippy::print_stdout)]

mod convert;
mod file_type;
mod fit;
mod ggml;
#[cfg(test)]
mod hostile;
mod hugging_face;
mod imatrix;
mod imatrix_file;
mod inspect;
mod measure;
mod quantizers;
mod running;
mod source;
mod tensor_class;
mod text_windows;
mod type_mix;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use cloister_gguf::Gguf;
use cloister_program::output;
use cloister_sandbox::{Policy, processes};

use crate::convert::Job;
use crate::file_type::FileType;
use crate::fit::{Board, Bytes};
use crate::running::Running;
use crate::type_mix::{Recipe, TensorOverride};

/// Turn a checkpoint into a low-bit GGUF file.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a GGUF file holds: metadata, tensors, types, sizes, and what memory it takes to run.
    Inspect {
        /// The file.
        file: PathBuf,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        running: Running,
    },
    /// Write a model as a GGUF file of another type.
    Convert {
        /// A GGUF file, or a Hugging Face folder with config.json, tokenizer.json and safetensors.
        source: PathBuf,
        /// The file to write.
        out: PathBuf,
        #[command(flatten)]
        size: Size,
        /// An importance matrix of this model: imatrix or llama-imatrix collects one.
        #[arg(long, value_name = "FILE")]
        imatrix: Option<PathBuf>,
        /// Give the tensors whose names match REGEX this type; the first match decides. Repeatable.
        #[arg(long = "tensor-type", value_name = "REGEX=TYPE")]
        overrides: Vec<TensorOverride>,
        /// Choose each tensor's type exactly as llama-quantize does. It differs for deepseek2 below
        /// four bits: our own mixes keep what every token meets at 4 to 6 bits.
        #[arg(long)]
        like_llama_quantize: bool,
        /// Go on with the unfinished OUT.partial of an earlier run that was stopped, killed or ran
        /// out of space, if it is there; without this it is begun anew.
        #[arg(long)]
        resume: bool,
        /// Say what would be written, and what memory and time it takes; write nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        running: Running,
    },
    /// Collect which columns of the weights matter most, by running a text through a model.
    Imatrix {
        /// The model, a GGUF file of many bits.
        model: PathBuf,
        /// The text, a UTF-8 file.
        text: PathBuf,
        /// The file to write, for the --imatrix of convert or of llama-quantize.
        #[arg(short, long)]
        out: PathBuf,
        #[command(flatten)]
        windows: Windows,
    },
    /// Measure how well a model predicts a text, and how far it is from another model.
    Measure {
        /// The model, a GGUF file.
        model: PathBuf,
        /// The text, a UTF-8 file.
        text: PathBuf,
        /// The model to compare with, of the same vocabulary.
        #[arg(long, value_name = "BASE")]
        against: Option<PathBuf>,
        #[command(flatten)]
        windows: Windows,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// What decides the type of the weights.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Size {
    /// The type of the weights.
    #[arg(long = "type", value_enum, ignore_case = true)]
    file_type: Option<FileType>,
    /// The best type with which the model, its context of --ctx tokens and all buffers run within
    /// this memory, such as 4GiB.
    #[arg(long, value_name = "MEMORY")]
    fit: Option<Bytes>,
    /// The same, within what this board has left beside its system.
    #[arg(long, value_enum)]
    board: Option<Board>,
}

/// How a text is cut.
#[derive(Debug, Args)]
struct Windows {
    /// Tokens in a window.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    ctx: u32,
    /// Use no more than this many windows of the text.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
}

impl Windows {
    fn chunks(&self) -> Option<usize> {
        self.chunks.map(|n| n as usize)
    }
}

fn main() -> ExitCode {
    cloister_program::panics::tell_only_where("cloister-quantize");
    let cli: Cli = cloister_program::command_line::parse();
    let done = match policy(&cli.command).seal() {
        Ok(seal) => {
            if !seal.gaps().is_empty() {
                eprintln!("note: {}", seal.line());
            }
            run(cli.command)
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloister-quantize: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a command may do.
fn policy(command: &Command) -> Policy {
    match command {
        Command::Inspect { file, .. } => processes::quantize(&[file], None),
        Command::Convert {
            source,
            out,
            imatrix,
            dry_run,
            ..
        } => {
            let imatrix = imatrix.as_deref();
            let reads: Vec<&Path> = [&**source].into_iter().chain(imatrix).collect();
            processes::quantize(&reads, (!dry_run).then_some(out))
        }
        Command::Imatrix {
            model, text, out, ..
        } => processes::quantize(&[model, text], Some(out)),
        Command::Measure {
            model,
            text,
            against,
            ..
        } => {
            let against = against.as_deref();
            let reads: Vec<&Path> = [&**model, &**text].into_iter().chain(against).collect();
            processes::quantize(&reads, None)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Inspect {
            file,
            json,
            running,
        } => inspect_file(&file, json, &running),
        Command::Convert {
            source,
            out,
            size,
            imatrix,
            overrides,
            like_llama_quantize,
            resume,
            dry_run,
            running,
        } => convert::convert(Job {
            source: &source,
            out: &out,
            recipe: Recipe {
                like_llama_quantize,
                overrides,
                // With --fit, the one that fits takes its place.
                ..Recipe::of(size.file_type.unwrap_or(FileType::Q8_0))
            },
            fit: size.fit.or(size.board.map(Board::bytes)),
            imatrix: imatrix.as_deref(),
            resume,
            dry_run,
            running,
        }),
        Command::Imatrix {
            model,
            text,
            out,
            windows,
        } => imatrix::imatrix(&model, &text, &out, windows.ctx, windows.chunks()),
        Command::Measure {
            model,
            text,
            against,
            windows,
            json,
        } => {
            let (ctx, chunks) = (windows.ctx, windows.chunks());
            measure::measure(&model, &text, against.as_deref(), ctx, chunks, json)
        }
    }
}

/// Prints the description, and fails after it if the file's data is cut short: what there is of it
/// may be just what one wants to see.
fn inspect_file(file: &Path, json: bool, running: &Running) -> Result<()> {
    let gguf = Gguf::open_header(file)?;
    let text = if json {
        format!("{:#}", inspect::json(&gguf, running))
    } else {
        inspect::table(&gguf, running)
    };
    output::print(text.trim_end())?;
    Ok(gguf.check_data()?)
}
