//! `--dry-run` says what a conversion would write, and writes nothing.

mod support;

use cloister_gguf::Gguf;
use support::{cloister_quantize, convert, fetched, names_in};

/// The words of the line that starts with `start`.
#[track_caller]
fn words<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    let line = text.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no line starts with {start:?}: {text}"));
    line[start.len()..].split_whitespace().collect()
}

#[test]
fn what_it_says_is_what_is_written_then() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let source = fetched("smollm2-135m-instruct-q4_1.gguf");
    let args = [source.to_str().unwrap(), out.to_str().unwrap()];
    let more = ["--type", "Q4_K_M", "--dry-run", "--ctx", "2048"];
    let run = cloister_quantize(["convert"].iter().chain(&args).chain(&more));
    run.succeeded();
    assert_eq!(names_in(folder.path()), [] as [&str; 0]);

    convert(&source, &out, "Q4_K_M").succeeded();
    let gguf = Gguf::open(&out).unwrap();
    let size = format!("{:.1}", gguf.file_len as f64 / 1e6);
    assert_eq!(words(&run.stdout, "file:")[..2], [&size, "MB,"]);
    let of = |name: &str| -> u64 {
        let tensors = gguf.tensors.iter().filter(|t| t.name.contains(name));
        tensors.map(|t| t.bytes()).sum()
    };
    let attention = of("attn_") - of("attn_norm");
    let attention = format!("{:.1}", attention as f64 / 1e6);
    let line = words(&run.stdout, "attention");
    assert_eq!((line[0], line[2]), ("120", &attention[..]));
    assert_eq!(&line[4..], ["Q5_0,", "Q8_0"]);
    assert_eq!(
        words(&run.stdout, "norms and the rest").last(),
        Some(&"F32")
    );
    assert_eq!(words(&run.stdout, "embedding").last(), Some(&"Q8_0"));
    let to_run = words(&run.stdout, "to run:");
    assert_eq!(to_run[1..5], ["MiB", "with", "2048", "tokens"]);
    let weights: u64 = gguf.tensors.iter().map(|t| t.bytes()).sum();
    let total: u64 = to_run[0].parse().unwrap();
    assert!(
        total > weights >> 20 && total < (weights >> 20) + 1000,
        "{total}"
    );
    assert!(words(&run.stdout, "to convert:").contains(&"cores,"));
}
