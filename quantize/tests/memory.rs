//! Converting takes memory that does not grow with the model.

mod support;

use std::process::Command;

use cloister_gguf::Gguf;
use support::{binary, fetched, peak_memory};

#[test]
fn converting_half_a_billion_weights_stays_within_the_largest_tensor_and_300_mb() {
    let source = fetched("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
    let tensors = Gguf::open(&source).unwrap().tensors;
    let largest = tensors.iter().map(|t| t.elements() * 4).max().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let peak = peak_memory(
        Command::new(binary())
            .arg("convert")
            .args([&source, &out])
            .args(["--type", "Q8_0"]),
    );
    println!(
        "peak {} MB, largest tensor in F32 {} MB",
        peak >> 20,
        largest >> 20
    );
    assert!(peak <= largest + 300_000_000);
    // In fact no tensor is ever held whole, so that models with larger ones need no more.
    assert!(peak <= 300_000_000, "{} MB", peak >> 20);
}
