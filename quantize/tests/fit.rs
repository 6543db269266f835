//! `--fit` and `--board` take the best type with which a model runs in some memory.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cloister_gguf::Gguf;
use serde_json::Value;
use support::{Run, cloister_quantize, fetched, names_in};

fn fit(source: &Path, out: &Path, more: &[&str]) -> Run {
    let args = ["convert", source.to_str().unwrap(), out.to_str().unwrap()];
    cloister_quantize(args.iter().chain(more))
}

/// A file with the header of R1-Distill-Qwen-7B and zeroes for weights, which take no room.
fn seven_billion(folder: &Path) -> PathBuf {
    let path = fetched("r1-distill-qwen-7b-header.gguf");
    let header = Gguf::open_header(&path).unwrap();
    let ends = header.tensors.iter().map(|t| t.offset + t.bytes());
    let size = header.data_start + ends.max().unwrap();
    let copy = folder.join("r1.gguf");
    fs::copy(path, &copy).unwrap();
    let file = File::options().write(true).open(&copy).unwrap();
    file.set_len(header.data_start).unwrap();
    file.set_len(size).unwrap();
    copy
}

/// Type, memory to run in MiB, and the judgement of each row of the table.
fn rows(run: &Run) -> Vec<(String, u64, String)> {
    let lines = run
        .stdout
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty());
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let need = words[2].parse().unwrap();
            (words[0].to_owned(), need, words[3..].join(" "))
        })
        .collect()
}

#[test]
fn the_largest_type_that_fits_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let source = seven_billion(folder.path());
    let out = folder.path().join("out.gguf");
    let run = fit(
        &source,
        &out,
        &["--fit", "5GiB", "--ctx", "8192", "--dry-run"],
    );
    run.succeeded();
    let rows = rows(&run);
    let chosen = rows.iter().position(|row| row.2 == "chosen").unwrap();
    assert!(rows.is_sorted_by(|a, b| a.1 >= b.1), "{}", run.stdout);
    assert!(rows[chosen].1 <= 5 << 10 && rows[chosen - 1].1 > 5 << 10);
    assert!(rows[..chosen].iter().all(|row| row.2 == "too large"));
    assert!(
        rows[chosen + 1..]
            .iter()
            .all(|row| row.2 == "fits" || row.2 == "needs --imatrix")
    );
    assert_eq!(rows.last().unwrap().2, "needs --imatrix");
    // Q4_K_M has 4.4 GiB of weights and would leave too little; the next below is Q4_K_S.
    let judged = |name: &str| &rows.iter().find(|row| row.0 == name).unwrap().2;
    assert_eq!(judged("Q4_K_M"), "too large");
    assert!(run.stdout.contains(&format!(" MB, {}\n", rows[chosen].0)));
    assert_eq!(names_in(folder.path()), ["r1.gguf"]);
}

#[test]
fn a_longer_context_leaves_less_for_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let source = seven_billion(folder.path());
    let out = folder.path().join("out.gguf");
    let chosen = |more: &[&str]| {
        let run = fit(
            &source,
            &out,
            &[more, &["--board", "pi5-8gb", "--dry-run"]].concat(),
        );
        run.succeeded();
        rows(&run)
            .into_iter()
            .find(|row| row.2 == "chosen")
            .unwrap()
            .0
    };
    assert_eq!(chosen(&["--ctx", "4096"]), "Q6_K");
    let long = chosen(&["--ctx", "32768"]);
    let long_in_q8_0 = chosen(&["--ctx", "32768", "--kv-type", "q8_0"]);
    assert_eq!((&long[..], &long_in_q8_0[..]), ("Q5_K_M", "Q6_K"));
}

#[test]
fn what_was_chosen_is_written_and_runs_within_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let source = fetched("smollm2-135m-instruct-q4_1.gguf");
    let run = fit(&source, &out, &["--fit", "375MiB", "--ctx", "2048"]);
    run.succeeded();
    let chosen = rows(&run)
        .into_iter()
        .find(|row| row.2 == "chosen")
        .unwrap();
    let args = ["inspect", out.to_str().unwrap(), "--json", "--ctx", "2048"];
    let inspected = cloister_quantize(args);
    inspected.succeeded();
    let json: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(json["file_type"], chosen.0);
    let total = json["memory"]["total"].as_u64().unwrap();
    assert_eq!(total.div_ceil(1 << 20), chosen.1);
    assert!(total <= 375 << 20);
}

#[test]
fn when_nothing_fits_it_says_what_would_help() {
    let folder = tempfile::tempdir().unwrap();
    let source = seven_billion(folder.path());
    let out = folder.path().join("out.gguf");
    let run = fit(&source, &out, &["--fit", "3GiB", "--ctx", "8192"]);
    let line = run.error_line(1);
    for part in [
        "nothing fits into 3072 MiB",
        "8192",
        "Q2_K",
        "an --imatrix",
        "--kv-type q8_0",
    ] {
        assert!(line.contains(part), "{line:?} should contain {part:?}");
    }
    assert!(
        rows(&run)
            .iter()
            .all(|row| row.2 != "chosen" && row.2 != "fits"),
        "{}",
        run.stdout
    );
    assert_eq!(rows(&run).len(), 20);
    let run = fit(&source, &out, &["--fit", "1GiB", "--ctx", "8192"]);
    assert!(!run.error_line(1).contains("imatrix"));
    assert_eq!(names_in(folder.path()), ["r1.gguf"]);
}

#[test]
fn few_bits_without_an_imatrix_and_a_context_beyond_the_model_s_get_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let source = seven_billion(folder.path());
    let out = folder.path().join("out.gguf");
    for (more, importance, context) in [
        (["--fit", "4GiB", "--ctx", "4096"], true, false),
        (["--fit", "8GiB", "--ctx", "4096"], false, false),
        (["--fit", "64GiB", "--ctx", "131073"], false, true),
        (["--fit", "64GiB", "--ctx", "131072"], false, false),
    ] {
        let run = fit(&source, &out, &[&more[..], &["--dry-run"]].concat());
        run.succeeded();
        let said = |part: &str| run.stderr.contains(part);
        assert_eq!(
            said("without an importance matrix"),
            importance,
            "{more:?}: {}",
            run.stderr
        );
        assert_eq!(
            said("beyond the 131072 tokens"),
            context,
            "{more:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn memory_without_a_unit_and_two_sizes_are_wrong_use() {
    for args in [
        &["--fit", "4"][..],
        &["--fit", "4GiB", "--type", "Q4_0"],
        &["--fit", "4GiB", "--board", "pi5-8gb"],
        &["--board", "pi6"],
        &[],
    ] {
        fit(Path::new("in"), Path::new("out"), args).error_line(2);
    }
}
