//! `cloister bench`: the work that `llama-bench` times, as a table or as JSON; with `--batch`, batches of it.

mod batches;

use std::path::{Path, PathBuf};

use anyhow::Context;
use cloister_engine::bench::{Bench, Test};
use cloister_program::output;
use cloister_sandbox::processes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::settings::{WrongUse, check_threads};
use batches::BatchArgs;

/// Options of `cloister bench`, named as `llama-bench` names them.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// The GGUF file to time.
    #[arg(long, short = 'm', env = "CLOISTER_MODEL")]
    model: PathBuf,
    /// Tokens of the prompt; 0 leaves prefill out.
    #[arg(short = 'p', long = "n-prompt", default_value_t = 512)]
    n_prompt: u32,
    /// Tokens to decode; 0 leaves decode out.
    #[arg(short = 'n', long = "n-gen", default_value_t = 64)]
    n_gen: u32,
    #[command(flatten)]
    batches: BatchArgs,
    /// Threads; the physical cores this process may use unless given.
    #[arg(short = 't', long, env = "CLOISTER_THREADS")]
    threads: Option<usize>,
    /// Times each test is run, after a warm-up; with --batch, rounds of three runs each.
    #[arg(short = 'r', long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Multiply matrices with ggml's own kernels only.
    #[arg(long)]
    no_kernels: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Mean and standard deviation of a sample, in its own unit.
fn mean_and_deviation(sample: &[f64]) -> (f64, f64) {
    let n = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / n;
    let squares: f64 = sample.iter().map(|x| (x - mean).powi(2)).sum();
    (
        mean,
        if sample.len() > 1 {
            (squares / (n - 1.0)).sqrt()
        } else {
            0.0
        },
    )
}

/// Runs the tests and prints their results.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    check_threads(args.threads)?;
    if !args.batches.starts_another_program() {
        processes::bench(&args.model).seal()?;
    }
    if args.batches.wanted() {
        return batches::run(args);
    }
    if args.n_prompt == 0 && args.n_gen == 0 {
        let nothing = "there is nothing to time with -p 0 and -n 0; leave one of them out";
        return Err(WrongUse(nothing.to_owned()).into());
    }
    let bench = Bench::load(&args.model, args.threads, !args.no_kernels)?;
    let tests: Vec<Test> = [Test::Prefill(args.n_prompt), Test::Decode(args.n_gen)]
        .into_iter()
        .filter(|test| test.tokens() > 0)
        .collect();
    let bar = ProgressBar::new(tests.len() as u64 * u64::from(args.repetitions)).with_style(
        ProgressStyle::with_template("{msg:8} {bar:30} {pos}/{len}").expect("a fixed template"),
    );
    let mut results = Vec::new();
    for test in tests {
        let name = match test {
            Test::Prefill(_) => "prefill",
            Test::Decode(_) => "decode",
            Test::Verify(_) => "verify",
        };
        bar.set_message(name);
        let speeds = bench
            .run(test, args.repetitions as usize, || bar.inc(1))
            .map_err(anyhow::Error::msg)
            .with_context(|| {
                format!(
                    "{}: {name} of {} tokens",
                    args.model.display(),
                    test.tokens()
                )
            })?;
        results.push((name, test.tokens(), mean_and_deviation(&speeds)));
    }
    bar.finish_and_clear();

    if args.json {
        let results: Vec<_> = results
            .iter()
            .map(|(test, tokens, (mean, deviation))| {
                json!({"test": test, "tokens": tokens, "tokens_per_second": mean, "stddev": deviation})
            })
            .collect();
        let mut report = facts(&bench, &args.model);
        report["results"] = results.into();
        output::print(format_args!("{report:#}"))?;
    } else {
        output::print(head(&bench))?;
        for (test, tokens, (mean, deviation)) in results {
            output::print(format_args!(
                "{test:8} {tokens:6} tokens  {mean:9.2} ± {deviation:.2} tokens/s"
            ))?;
        }
    }
    Ok(())
}

/// What is timed, as JSON.
fn facts(bench: &Bench, path: &Path) -> serde_json::Value {
    let model = bench.model();
    json!({
        "model": {
            "path": path,
            "architecture": model.architecture,
            "quantization": model.quantization,
            "bytes": model.size,
            "parameters": model.n_params,
        },
        "threads": bench.n_threads(),
        "cpu": cloister_engine::cpu_features(),
    })
}

/// The same, in a line.
fn head(bench: &Bench) -> String {
    let model = bench.model();
    format!(
        "{} {}, {:.1} MiB, {:.1} M parameters, {} threads; {}",
        model.architecture,
        model.quantization,
        model.size as f64 / f64::from(1 << 20),
        model.n_params as f64 / 1e6,
        bench.n_threads(),
        cloister_engine::cpu_features()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_the_samples() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2f64.sqrt()));
        assert_eq!(mean_and_deviation(&[4.0]), (4.0, 0.0));
    }
}
