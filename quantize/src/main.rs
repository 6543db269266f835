//! `cloister-quantize`: checkpoints in, low-bit GGUF out. Offline, no service.
//!
//! Exit codes: 0 done, 2 wrong use, 1 anything else; each failure is one line on stderr.

mod convert;
mod file_type;
mod ggml;
mod source;
mod type_mix;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::file_type::FileType;

/// Turn a checkpoint into a low-bit GGUF file.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a model as a GGUF file of another type.
    Convert {
        /// A GGUF file, or a Hugging Face folder with config.json, tokenizer.json and safetensors.
        source: PathBuf,
        /// The file to write.
        out: PathBuf,
        /// The type of the weights.
        #[arg(long = "type", value_enum, ignore_case = true)]
        file_type: FileType,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => error.exit(), // --help, --version
        Err(error) => {
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            eprintln!("{}", lines.join(" "));
            return ExitCode::from(2);
        }
    };
    let done = match cli.command {
        Command::Convert { source, out, file_type } => convert::convert(&source, &out, file_type),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
