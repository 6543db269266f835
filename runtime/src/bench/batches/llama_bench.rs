//! A llama-bench that the user has, run on the same work.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{BenchArgs, RUNS};

/// Reads the path of a program: one that is there and may be run, found again from any folder.
pub fn program(text: &str) -> Result<PathBuf, String> {
    let what = "give the path of a llama-bench";
    // A link keeps its name, which is what some programs go by.
    let whole = std::path::absolute(text);
    let (path, metadata) = whole
        .and_then(|path| path.metadata().map(|metadata| (path, metadata)))
        .map_err(|error| format!("{error}: {what}"))?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(path)
    } else {
        Err(format!("this is no program: {what}"))
    }
}

/// Tokens a second of each batch size, from one run of it.
pub fn run(
    program: &Path,
    args: &BenchArgs,
    threads: usize,
    repack: bool,
) -> anyhow::Result<Vec<f64>> {
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
        .args(["-t", &threads.to_string(), "-r", &RUNS.to_string()])
        .args(["-o", "json", "--repack", if repack { "1" } else { "0" }])
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
    speeds(&output.stdout, sizes, args.n_gen)
        .with_context(|| format!("what {} printed", program.display()))
}

/// Tokens a second of each batch size in the table that it printed.
fn speeds(table: &[u8], sizes: &[u32], n_gen: u32) -> anyhow::Result<Vec<f64>> {
    #[derive(Deserialize)]
    struct Line {
        n_prompt: u32,
        n_gen: u32,
        avg_ts: f64,
    }
    let lines: Vec<Line> =
        serde_json::from_slice(table).context("this is no table of llama-bench's")?;
    let of = |n: &u32| {
        let wanted = if *n == 1 { (0, n_gen) } else { (*n, 0) };
        let line = lines.iter().find(|l| (l.n_prompt, l.n_gen) == wanted);
        Ok(line
            .with_context(|| format!("it timed no batch of {n}"))?
            .avg_ts)
    };
    sizes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As llama-bench prints it, but for fields that are not read.
    const TABLE: &str = r#"[
        {"model_type": "llama ?B Q4_1", "n_prompt": 4, "n_gen": 0, "n_depth": 0, "avg_ns": 1, "avg_ts": 84.5},
        {"model_type": "llama ?B Q4_1", "n_prompt": 0, "n_gen": 16, "n_depth": 0, "avg_ns": 1, "avg_ts": 56.25}
    ]"#;

    #[test]
    fn each_batch_has_its_own_line_of_the_table() {
        let speeds = |sizes: &[u32]| speeds(TABLE.as_bytes(), sizes, 16);
        assert_eq!(speeds(&[1, 4]).unwrap(), [56.25, 84.5]);
        assert_eq!(speeds(&[4, 1]).unwrap(), [84.5, 56.25]);
        let error = format!("{:#}", speeds(&[4, 8]).unwrap_err());
        assert_eq!(error, "it timed no batch of 8");
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for wrong in ["", "{}", "[{\"n_prompt\": 4}]", "| model | t/s |"] {
            let error = format!("{:#}", speeds(wrong.as_bytes(), &[4], 16).unwrap_err());
            assert!(error.contains("no table of llama-bench's"), "{error}");
        }
    }

    #[test]
    fn a_program_is_a_file_that_may_be_run() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(program(own.to_str().unwrap()), Ok(own));
        for wrong in ["/", "/nowhere", "/etc/passwd", ""] {
            let error = program(wrong).unwrap_err();
            assert!(error.contains("give the path of a llama-bench"), "{error}");
        }
    }
}
