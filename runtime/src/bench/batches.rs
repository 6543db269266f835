//! `cloister bench --batch`: batches of several sizes, beside `llama-bench` in the same run, and beside what the
//! machine could do at most.
//!
//! In: a model file, and the path of a llama-bench. Out: a table or JSON; an error below a floor. Must never report a
//! ratio of two rounds.

mod llama_bench;
mod report;
mod roofline;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cloister_engine::bench::{Bench, Test, peak};
use cloister_gguf::Gguf;
use cloister_program::output;
use indicatif::{ProgressBar, ProgressStyle};

use super::{BenchArgs, facts, head};
use crate::settings::WrongUse;
use report::{Row, Sample};
use roofline::Work;

/// The options of `cloister bench` for batches.
#[derive(clap::Args)]
pub struct BatchArgs {
    /// Time batches of these sizes instead, each from an empty cache: 1 is decoding, as many tokens as --n-gen says.
    #[arg(long, value_delimiter = ',', value_name = "N,…", conflicts_with = "n_prompt", value_parser = clap::value_parser!(u32).range(1..=2048))]
    batch: Vec<u32>,
    /// The path of a llama-bench to time beside, in alternating rounds: with weights as stored, and repacked.
    #[arg(long, value_name = "LLAMA_BENCH", requires = "batch", value_parser = llama_bench::program)]
    against: Option<PathBuf>,
    /// The ratio that a batch of N must reach against the better of the two; otherwise the exit code is 1.
    #[arg(long, value_delimiter = ',', value_name = "N:RATIO,…", requires = "against", value_parser = floor)]
    floor: Vec<(u32, f64)>,
}

impl BatchArgs {
    /// Whether batches are to be timed.
    pub fn wanted(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether `llama-bench` is to be timed beside it.
    pub fn starts_another_program(&self) -> bool {
        self.against.is_some()
    }
}

/// Reads `N:RATIO`.
fn floor(text: &str) -> Result<(u32, f64), String> {
    let parts = text.split_once(':');
    parts
        .and_then(|(n, ratio)| Some((n.parse().ok()?, ratio.parse().ok()?)))
        .filter(|(_, ratio): &(u32, f64)| ratio.is_finite() && *ratio > 0.0)
        .ok_or_else(|| format!("{text:?} is not a batch size and a ratio, such as 4:2.0"))
}

/// Times batches, prints them, and fails below a floor.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let sizes = &args.batches.batch;
    if sizes.contains(&1) && args.n_gen == 0 {
        let nothing = "a batch of 1 decodes --n-gen tokens: give it 1 or more";
        return Err(WrongUse(nothing.to_owned()).into());
    }
    if let Some((n, _)) = args.batches.floor.iter().find(|(n, _)| !sizes.contains(n)) {
        let missing = format!("--floor has a batch of {n}, which --batch has not");
        return Err(WrongUse(missing).into());
    }
    let bench = Bench::load(&args.model, args.threads, !args.no_kernels)?;
    let rounds = args.repetitions;
    let against = args.batches.against.as_deref();
    let steps = u64::from(rounds) * (1 + 2 * u64::from(against.is_some()));
    let bar = ProgressBar::new(steps).with_style(
        ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len}").expect("a fixed template"),
    );
    bar.set_message("what the machine can do");
    let peaks = peak::measure(bench.n_threads());
    let file = Gguf::open(&args.model)?;
    let work = Work::of(&file.metadata, &file.tensors);
    let mut rows: Vec<Row> = sizes
        .iter()
        .map(|n| Row {
            n: *n,
            samples: Vec::new(),
        })
        .collect();
    for _ in 0..rounds {
        let mut theirs = Vec::new();
        for repack in [false, true] {
            let Some(program) = against else { break };
            bar.set_message(if repack {
                "llama-bench, repacked"
            } else {
                "llama-bench, as stored"
            });
            let speeds = llama_bench::run(program, args, bench.n_threads(), repack)?;
            theirs.push(speeds);
            bar.inc(1);
        }
        bar.set_message("cloister");
        for (i, row) in rows.iter_mut().enumerate() {
            let time = |test| time(&bench, test, &args.model);
            let (ours, all_logits) = if row.n == 1 {
                // Decoding has the logits of each token.
                let speed = time(Test::Decode(args.n_gen))?;
                (speed, speed)
            } else {
                (time(Test::Prefill(row.n))?, time(Test::Verify(row.n))?)
            };
            row.samples.push(Sample {
                ours,
                all_logits,
                theirs: theirs.first().zip(theirs.get(1)).map(|(a, b)| [a[i], b[i]]),
            });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::print(if args.json {
        report::json(args, &bench, work, peaks, &rows)
    } else {
        report::table(&bench, work, peaks, &rows)
    })?;

    let below: Vec<String> = args
        .batches
        .floor
        .iter()
        .filter_map(|(n, floor)| {
            let ratio = rows.iter().find(|row| row.n == *n)?.ratio()?;
            (ratio < *floor).then(|| format!("{ratio:.2} instead of {floor} with a batch of {n}"))
        })
        .collect();
    if !below.is_empty() {
        bail!("slower than promised: {}", below.join(", "));
    }
    Ok(())
}

/// Runs within a round.
const RUNS: usize = 3;

/// Mean tokens a second of [`RUNS`] runs.
fn time(bench: &Bench, test: Test, model: &Path) -> anyhow::Result<f64> {
    let speeds = bench
        .run(test, RUNS, || ())
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{}: a batch of {}", model.display(), test.tokens()))?;
    Ok(speeds.iter().sum::<f64>() / speeds.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_a_size_and_a_ratio() {
        assert_eq!(floor("4:2.5"), Ok((4, 2.5)));
        for wrong in ["4", "4:", ":2", "4:-1", "4:NaN", "x:1"] {
            assert!(floor(wrong).is_err(), "{wrong}");
        }
    }
}
