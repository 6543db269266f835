//! `cloister bench --batch`: batches of several sizes, beside `llama-bench` in the same run, and beside what the
//! machine could do at most.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use cloister_engine::bench::peak::{self, Peaks};
use cloister_engine::bench::{Bench, Test};
use cloister_gguf::Gguf;
use cloister_program::output;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::json;

use super::{BenchArgs, facts, head};
use crate::settings::WrongUse;

/// The options of `cloister bench` for batches.
#[derive(clap::Args)]
pub struct BatchArgs {
    /// Time batches of these sizes instead, each from an empty cache: 1 is decoding, as many tokens as --n-gen says.
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(u32).range(1..=2048))]
    batch: Vec<u32>,
    /// A llama-bench to time beside, in alternating rounds: with weights as stored, and repacked.
    #[arg(long, value_name = "LLAMA_BENCH", requires = "batch")]
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

/// What one round gave, in tokens a second.
#[derive(Clone, Copy)]
struct Sample {
    ours: f64,
    /// With the logits of all tokens.
    verify: f64,
    /// As stored, and repacked.
    theirs: Option<[f64; 2]>,
}

impl Sample {
    fn ratio(self) -> Option<f64> {
        self.theirs.map(|[a, b]| self.ours / a.max(b))
    }
}

/// All rounds of one batch size.
struct Row {
    n: u32,
    samples: Vec<Sample>,
    /// What the machine could do, in tokens a second.
    limit: f64,
}

impl Row {
    fn median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let mut values = self.samples.iter().map(of).collect::<Option<Vec<_>>>()?;
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let low = values[(values.len() - 1) / 2];
        Some((low + values[middle]) / 2.0)
    }
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
    let work = Work::of(&Gguf::open(&args.model)?);
    let mut rows: Vec<Row> = sizes
        .iter()
        .map(|n| Row {
            n: *n,
            samples: Vec::new(),
            limit: work.limit(peaks, *n),
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
            theirs.push(llama_bench(program, args, bench.n_threads(), repack)?);
            bar.inc(1);
        }
        bar.set_message("cloister");
        for (i, row) in rows.iter_mut().enumerate() {
            let tests = match row.n {
                1 => [Test::Decode(args.n_gen), Test::Decode(args.n_gen)],
                n => [Test::Prefill(n), Test::Verify(n)],
            };
            let [ours, verify] = tests.map(|test| time(&bench, test, &args.model));
            row.samples.push(Sample {
                ours: ours?,
                verify: verify?,
                theirs: theirs.first().zip(theirs.get(1)).map(|(a, b)| [a[i], b[i]]),
            });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::print(report(args, &bench, work, peaks, &rows))?;

    let below: Vec<String> = args
        .batches
        .floor
        .iter()
        .filter_map(|(n, floor)| {
            let row = rows.iter().find(|row| row.n == *n)?;
            let ratio = row.median(|s| s.ratio())?;
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

/// What a step with a batch has to do at least.
#[derive(Clone, Copy)]
struct Work {
    /// Bytes of the weights that a token meets, and of those among them that are experts'.
    bytes: f64,
    expert_bytes: f64,
    /// Weights that a token meets: each costs a product and a sum.
    weights: f64,
    /// Experts, for one that a token meets.
    experts: f64,
}

impl Work {
    fn of(file: &Gguf) -> Self {
        let count = |what| {
            let architecture = file.metadata.str("general.architecture").unwrap_or("");
            file.metadata
                .u64(&format!("{architecture}.{what}"))
                .unwrap_or(1)
                .max(1) as f64
        };
        let mut work = Self {
            bytes: 0.0,
            expert_bytes: 0.0,
            weights: 0.0,
            experts: count("expert_count") / count("expert_used_count"),
        };
        // Of embeddings that are not the head as well, one row is looked up.
        let tied = file.tensor("output.weight").is_none();
        for tensor in &file.tensors {
            let looked_up = tensor.name.as_str() == "token_embd.weight" && !tied;
            let vector = tensor.rows() == 1;
            let share = if tensor.name.contains("_exps.") {
                1.0 / work.experts
            } else {
                1.0
            };
            if looked_up || vector {
                continue;
            }
            work.bytes += share * tensor.bytes() as f64;
            work.weights += share * tensor.elements() as f64;
            if share < 1.0 {
                work.expert_bytes += share * tensor.bytes() as f64;
            }
        }
        work
    }

    /// At most this many tokens a second with a batch of `n`: it reads all weights once, of experts as many as
    /// its tokens can meet, and multiplies each with every token that meets it.
    fn limit(self, peaks: Peaks, n: u32) -> f64 {
        let n = f64::from(n);
        let experts = f64::min(n, self.experts) * self.expert_bytes;
        let read = (self.bytes - self.expert_bytes + experts) / peaks.bytes;
        let multiply = peaks
            .operations
            .map_or(0.0, |operations| 2.0 * self.weights * n / operations);
        n / f64::max(read, multiply)
    }
}

/// Tokens a second of each batch size, from one run of llama-bench.
fn llama_bench(
    program: &Path,
    args: &BenchArgs,
    threads: usize,
    repack: bool,
) -> anyhow::Result<Vec<f64>> {
    #[derive(Deserialize)]
    struct Line {
        n_prompt: u32,
        n_gen: u32,
        avg_ts: f64,
    }
    let sizes = &args.batches.batch;
    let several: Vec<String> = sizes
        .iter()
        .filter(|n| **n > 1)
        .map(u32::to_string)
        .collect();
    let (prompts, decode) = (several.join(","), sizes.contains(&1));
    let output = Command::new(program)
        .arg("-m")
        .arg(&args.model)
        .args(["-p", if prompts.is_empty() { "0" } else { &prompts }])
        .args(["-n", &if decode { args.n_gen } else { 0 }.to_string()])
        .args([
            "-t",
            &threads.to_string(),
            "-r",
            &RUNS.to_string(),
            "-o",
            "json",
        ])
        .args(["--repack", if repack { "1" } else { "0" }])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        bail!(
            "{} failed ({}): {}",
            program.display(),
            output.status,
            last.unwrap_or("it said nothing")
        );
    }
    let lines: Vec<Line> = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "what {} printed is no table of llama-bench's",
            program.display()
        )
    })?;
    sizes
        .iter()
        .map(|n| {
            let wanted = |line: &&Line| match n {
                1 => line.n_prompt == 0 && line.n_gen == args.n_gen,
                n => line.n_prompt == *n && line.n_gen == 0,
            };
            let line = lines.iter().find(wanted);
            let line =
                line.with_context(|| format!("{} timed no batch of {n}", program.display()))?;
            Ok(line.avg_ts)
        })
        .collect()
}

fn report(args: &BenchArgs, bench: &Bench, work: Work, peaks: Peaks, rows: &[Row]) -> String {
    let ours = |row: &Row| row.median(|s| Some(s.ours)).expect("a round at least");
    let verify = |row: &Row| row.median(|s| Some(s.verify)).expect("a round at least");
    let theirs = |row: &Row, mode: usize| row.median(|s| s.theirs.map(|t| t[mode]));
    if args.json {
        let mut report = facts(bench, &args.model);
        report["peaks"] = json!({"bytes_per_second": peaks.bytes, "int8_operations_per_second": peaks.operations});
        report["token"] = json!({"bytes": work.bytes, "operations": 2.0 * work.weights});
        report["batches"] = rows
            .iter()
            .map(|row| {
                json!({
                    "n": row.n,
                    "tokens_per_second": ours(row),
                    "tokens_per_second_all_logits": verify(row),
                    "llama_bench": theirs(row, 0),
                    "llama_bench_repacked": theirs(row, 1),
                    "ratio": row.median(|s| s.ratio()),
                    "limit": row.limit,
                })
            })
            .collect();
        return format!("{report:#}");
    }
    let mut text = format!(
        "{}\na token: {:.1} MB and {:.2} G operations; this machine: {:.1} GB/s{}\n\n\
         | batch | as stored | repacked | cloister | ratio | all logits | limit | reached |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |",
        head(bench),
        work.bytes / 1e6,
        2.0 * work.weights / 1e9,
        peaks.bytes / 1e9,
        peaks.operations.map_or(String::new(), |o| format!(
            " and {:.0} G 8-bit operations/s",
            o / 1e9
        )),
    );
    let figure = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
    };
    for row in rows {
        text += &format!(
            "\n| {} | {} | {} | {:.1} | {} | {:.1} | {:.1} | {:.0} % |",
            row.n,
            figure(theirs(row, 0), 1),
            figure(theirs(row, 1), 1),
            ours(row),
            figure(row.median(|s| s.ratio()), 2),
            verify(row),
            row.limit,
            100.0 * ours(row) / row.limit,
        );
    }
    text
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

    #[test]
    fn a_ratio_is_that_of_its_own_round() {
        let sample = |ours, theirs| Sample {
            ours,
            verify: ours,
            theirs: Some(theirs),
        };
        let row = Row {
            n: 4,
            samples: vec![
                sample(20.0, [10.0, 5.0]),
                sample(8.0, [1.0, 2.0]),
                sample(3.0, [1.0, 0.5]),
            ],
            limit: 1.0,
        };
        assert_eq!(row.median(|s| s.ratio()), Some(3.0));
        assert_eq!(row.median(|s| Some(s.ours)), Some(8.0));
    }
}
