//! `inspect` tells people and programs what a file holds.

mod support;

use serde_json::{Value, json};
use support::{ANY, cloister_quantize, fetched};

fn inspect_json(path: &std::path::Path) -> Value {
    let run = cloister_quantize(["inspect", path.to_str().unwrap(), "--json"]);
    run.succeeded();
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn json_describes_metadata_tensors_and_totals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    ANY.write(&path);
    let json = inspect_json(&path);
    assert_eq!(json["path"], json!(path));
    assert_eq!(json["version"], 3);
    assert_eq!(json["architecture"], "llama");
    assert_eq!(json["file_type"], Value::Null);
    assert_eq!(json["complete"], true);
    assert_eq!(json["file_bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(
        json["metadata"]["llama.block_count"],
        json!({"type": "u32", "value": 2})
    );
    let epsilon = &json["metadata"]["llama.attention.layer_norm_rms_epsilon"];
    assert_eq!(epsilon, &json!({"type": "f32", "value": 1e-6}));
    assert_eq!(
        json["tensors"][0],
        json!({
            "name": "token_embd.weight", "shape": [256, 4], "type": "F32", "offset": 0,
            "bytes": 4096, "bits_per_weight": 32.0,
        })
    );
    let elements: u64 = ANY.tensors().iter().map(|t| t.elements()).sum();
    assert_eq!(json["parameters"], elements);
    assert_eq!(json["tensor_bytes"], elements * 4);
    assert_eq!(json["bits_per_weight"], 32.0);
}

#[test]
fn long_arrays_are_summarised() {
    let json = inspect_json(&fetched("smollm2-135m-instruct-q4_1.gguf"));
    let tokens = &json["metadata"]["tokenizer.ggml.tokens"];
    assert_eq!(tokens["length"], 49152);
    assert_eq!(tokens["element_type"], "string");
    assert_eq!(tokens["first"].as_array().unwrap().len(), 8);
    assert_eq!(tokens["first"][1], "<|im_start|>");
    assert_eq!(json["file_type"], "Q4_1");
}

#[test]
fn the_table_shows_keys_tensors_and_types() {
    let path = fetched("smollm2-135m-instruct-q4_1.gguf");
    let run = cloister_quantize(["inspect", path.to_str().unwrap()]);
    run.succeeded();
    assert!(
        run.stdout
            .starts_with("GGUF v3, llama, Q4_1: 134.52 M parameters"),
        "{}",
        run.stdout
    );
    let has = |parts: &[&str]| {
        run.stdout
            .lines()
            .any(|line| parts.iter().all(|p| line.contains(p)))
    };
    assert!(has(&["llama.block_count", "u32", "30"]));
    assert!(has(&["tokenizer.ggml.tokens", "49152 x string"]));
    assert!(has(&[
        "blk.29.ffn_down.weight",
        "1536 x 576",
        "Q4_1",
        "5.000 bits per weight"
    ]));
    assert!(has(&["F32", "61 tensors"]));
    assert_eq!(run.stderr, "");
}

#[test]
fn classes_and_the_memory_of_a_context_are_shown() {
    let path = fetched("smollm2-135m-instruct-q4_1.gguf");
    let json = inspect_json(&path);
    let classes = json["classes"].as_object().unwrap();
    let bytes = classes
        .values()
        .map(|class| class["bytes"].as_u64().unwrap());
    assert_eq!(json["tensor_bytes"], bytes.sum::<u64>());
    let attention = &classes["attention"];
    assert_eq!(attention["tensors"], 120);
    // Query and output of 576 x 576, key and value of 576 x 192.
    let parameters = 30 * (2 * 576 * 576 + 2 * 576 * 192);
    assert_eq!(attention["types"], json!({"Q4_1": parameters}));
    let memory = &json["memory"];
    assert_eq!(memory["weights"], json["tensor_bytes"]);
    // 30 layers, keys and values of 3 heads of 64 in F16.
    assert_eq!(memory["kv_cache"], 4096 * 30 * 2 * 3 * 64 * 2);

    let args = ["inspect", path.to_str().unwrap(), "--ctx", "8192"];
    let run = cloister_quantize(args.iter().chain(&["--kv-type", "q8_0"]));
    run.succeeded();
    let line = run.stdout.lines().last().unwrap();
    assert!(line.contains("8192 tokens of context in q8_0"), "{line}");
    // The same number of bytes as the F16 one of half the length, and a sixteenth.
    assert!(line.contains("KV cache 96,"), "{line}");
    assert!(run.stdout.contains("\nby class\n"));
    cloister_quantize(args[..3].iter().chain(&["--ctx", "1"])).error_line(2);
}

#[test]
fn text_of_a_file_cannot_command_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut metadata = ANY.metadata();
    metadata.set("general.name", "\u{1b}[2Jgone\nnext line");
    cloister_gguf::Writer::create(&path, &metadata, Vec::new())
        .unwrap()
        .finish()
        .unwrap();
    let run = cloister_quantize(["inspect", path.to_str().unwrap()]);
    run.succeeded();
    assert!(!run.stdout.contains('\u{1b}'));
    assert!(
        run.stdout.contains(r"\u{1b}[2Jgone\nnext line"),
        "{}",
        run.stdout
    );
}
