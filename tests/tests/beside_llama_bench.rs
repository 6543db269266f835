//! `cloister bench` beside a real llama-bench, which `tests/bench/bench.py --llama-bench` builds. How fast anything is,
//! no test says: the floors are such as no machine reaches, or every one.

use std::process::{Command, Output};

use cloister_tests::parts::{cached, program, smollm2};
use cloister_tests::serve::engine_turn;
use serde_json::Value;

fn bench(options: &str) -> Output {
    let _turn = engine_turn();
    let mut command = Command::new(program("cloister"));
    command.args(["bench", "--model"]).arg(smollm2());
    command.args("--batch 1,4 -n 2 -r 1 --against".split(' '));
    command.arg(cached("llama-bench/build/bin/llama-bench"));
    command.args(options.split_whitespace());
    command.output().expect("the program is there")
}

#[test]
fn a_floor_that_is_reached_ends_well_and_the_ratio_is_to_the_better_mode() {
    let output = bench("--floor 1:0.0001,4:0.0001 --json");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let batches = report["batches"].as_array().expect("a list");
    assert_eq!(batches.len(), 2);
    for batch in batches {
        let number = |key: &str| batch[key].as_f64().expect("it was timed");
        let better = f64::max(number("llama_bench"), number("llama_bench_repacked"));
        let ratio = number("tokens_per_second") / better;
        assert!((number("ratio") / ratio - 1.0).abs() < 1e-9, "{batch}");
    }
}

#[test]
fn a_floor_that_is_missed_is_named_behind_the_table() {
    let output = bench("--floor 1:1000,4:0.0001");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        table.lines().filter(|line| line.starts_with('|')).count(),
        4
    );
    assert!(!table.contains("| - |"), "{table}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("instead of 1000 with a batch of 1"), "{said}");
    assert!(!said.contains("with a batch of 4"), "{said}");
}
