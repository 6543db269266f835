//! `cloister bench`: what it prints, and what scripts read of it. How fast anything is, no test says.

use std::process::{Command, Output};

use cloister_tests::parts::{program, smollm2};
use cloister_tests::serve::engine_turn;
use serde_json::Value;

fn bench(options: &str) -> Output {
    let _turn = engine_turn();
    let mut command = Command::new(program("cloister"));
    command.args(["bench", "--model"]).arg(smollm2());
    command.args(options.split_whitespace());
    command.output().expect("the program is there")
}

fn printed(options: &str) -> String {
    let output = bench(options);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{options}: {said}");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn json(options: &str) -> Value {
    serde_json::from_str(&printed(options)).expect("it prints JSON")
}

fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("it is an object");
    object.keys().map(String::as_str).collect()
}

fn number(object: &Value, key: &str) -> f64 {
    let number = object[key].as_f64();
    number
        .filter(|n| *n > 0.0)
        .unwrap_or_else(|| panic!("{key} of {object}"))
}

/// What every report begins with.
fn check_facts(report: &Value) {
    let facts = [
        "path",
        "architecture",
        "quantization",
        "bytes",
        "parameters",
    ];
    for fact in facts {
        assert!(report["model"].get(fact).is_some(), "{fact}: {report}");
    }
    assert_eq!(report["model"]["architecture"], "llama");
    number(report, "threads");
    assert!(report["cpu"].is_string(), "{report}");
}

#[test]
fn a_prompt_and_tokens_one_by_one_are_timed() {
    let report = json("-p 8 -n 2 -r 2 --json");
    check_facts(&report);
    let results = report["results"].as_array().expect("a list");
    for (result, (test, tokens)) in results.iter().zip([("prefill", 8), ("decode", 2)]) {
        let names = ["test", "tokens", "tokens_per_second", "stddev"];
        assert!(names.iter().all(|name| result.get(name).is_some()));
        assert_eq!(
            (&result["test"], &result["tokens"]),
            (&test.into(), &tokens.into())
        );
        number(result, "tokens_per_second");
    }
    assert_eq!(results.len(), 2);
}

#[test]
fn batches_are_reported_for_scripts_beside_their_limits() {
    let report = json("--batch 4,1 -n 2 -r 2 --json");
    check_facts(&report);
    number(&report["peaks"], "bytes_per_second");
    // Where there are no kernels it is null.
    assert!(report["peaks"].get("int8_operations_per_second").is_some());
    number(&report["token"], "bytes");
    number(&report["token"], "operations");
    let batches = report["batches"].as_array().expect("a list");
    let sizes: Vec<_> = batches.iter().map(|batch| &batch["n"]).collect();
    assert_eq!(sizes, [4, 1]);
    for batch in batches {
        let mut names = keys(batch);
        names.sort_unstable();
        let expected = "limit limit_all_logits llama_bench llama_bench_repacked n ratio tokens_per_second tokens_per_second_all_logits";
        assert_eq!(names.join(" "), expected);
        for none in ["llama_bench", "llama_bench_repacked", "ratio"] {
            assert!(batch[none].is_null(), "{batch}");
        }
        for some in ["tokens_per_second", "tokens_per_second_all_logits"] {
            number(batch, some);
        }
        // More logits are no less work.
        assert!(number(batch, "limit") >= number(batch, "limit_all_logits"));
    }
    // Decoding has all logits.
    let one = &batches[1];
    assert_eq!(
        one["tokens_per_second"],
        one["tokens_per_second_all_logits"]
    );
    assert_eq!(one["limit"], one["limit_all_logits"]);
}

#[test]
fn batches_are_a_table_for_people() {
    let text = printed("--batch 1,4 -n 2 -r 1");
    let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    let columns = |line: &str| line.matches('|').count() - 1;
    assert_eq!(table.len(), 4, "{text}");
    assert!(
        table.iter().all(|line| columns(line) == columns(table[0])),
        "{text}"
    );
    for (line, n) in table[2..].iter().zip(["| 1 | - | - |", "| 4 | - | - |"]) {
        assert!(line.starts_with(n), "{text}");
    }
}

#[test]
fn a_program_that_is_no_llama_bench_is_told() {
    for (program, told) in [
        ("/bin/false", "failed"),
        ("/bin/true", "no table of llama-bench's"),
    ] {
        let output = bench(&format!("--batch 4 -r 1 --against {program}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(told) && said.contains(program.trim_start_matches("/bin/")),
            "{said}"
        );
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}
