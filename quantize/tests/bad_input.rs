//! What is wrong gets one clear line on stderr and its exit code, and leaves nothing behind.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use cloister_gguf::{Gguf, TensorType, Writer};
use serde_json::json;
use support::hugging_face::Folder;
use support::{ANY, Run, binary, cloister_quantize, convert, fetched, names_in};

/// A temporary folder with a sound model in it, `source.gguf`.
fn with_model() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    ANY.write(&source);
    (folder, source)
}

/// Converts `source` to `out.gguf` beside it, which must fail with a line that has all of `parts`
/// and leave nothing.
#[track_caller]
fn assert_refused(source: &Path, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let run = convert(source, &folder.path().join("out.gguf"), "Q4_K_M");
    assert_line(&run, parts);
    assert_eq!(names_in(folder.path()), [] as [&str; 0]);
}

#[track_caller]
fn assert_line(run: &Run, parts: &[&str]) {
    let line = run.error_line(1);
    for part in parts {
        assert!(line.contains(part), "{line:?} should contain {part:?}");
    }
}

/// Replaces the only occurrence of `from` in a file.
#[track_caller]
fn patch(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<_> = (0..bytes.len() - from.len())
        .filter(|&i| bytes[i..].starts_with(from))
        .collect();
    assert_eq!(places.len(), 1, "the pattern must occur once");
    bytes[places[0]..places[0] + from.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_type_for_experts_of_a_model_without_any() {
    let (folder, source) = with_model();
    let out = folder.path().join("out.gguf");
    let run = convert(&source, &out, "MXFP4");
    assert_line(&run, &["MXFP4_MOE", "no experts", "Q8_0"]);
    assert_eq!(names_in(folder.path()), ["source.gguf"]);
}

#[test]
fn a_file_that_is_no_gguf() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "a shopping list").unwrap();
    assert_refused(&path, &["notes.txt", "not a GGUF file"]);
    assert_line(
        &cloister_quantize(["inspect", path.to_str().unwrap()]),
        &["not a GGUF file"],
    );
}

#[test]
fn a_file_that_is_not_there_or_is_no_file() {
    assert_refused(
        Path::new("/no/such/model.gguf"),
        &["/no/such/model.gguf", "cannot open"],
    );
    assert_refused(Path::new("/dev/zero"), &["/dev/zero", "no regular file"]);
}

#[test]
fn a_file_that_is_cut_short() {
    let (_folder, source) = with_model();
    let bytes = fs::read(&source).unwrap();
    for (len, part) in [
        (3, "not a GGUF file"),
        (40, "cut short"),
        (bytes.len() - 100, "cut short"),
    ] {
        fs::write(&source, &bytes[..len]).unwrap();
        assert_refused(&source, &["source.gguf", part]);
    }
}

#[test]
fn inspecting_a_cut_file_shows_its_header_and_then_fails() {
    let path = fetched("r1-distill-qwen-7b-header.gguf");
    let run = cloister_quantize(["inspect", path.to_str().unwrap()]);
    assert_line(&run, &["cut short", "output.weight"]);
    assert!(run.stdout.contains("deepseek-r1-qwen"));
    assert!(run.stdout.contains("blk.27.ffn_down.weight"));
    assert_refused(&path, &["cut short", "99614720"]);
}

#[test]
fn a_header_that_lies_about_sizes() {
    let (_folder, source) = with_model();
    let tensors = Gguf::open(&source).unwrap().tensors;
    // In the header: row length, rows, type, offset.
    let info = |rows: u64, offset: u64| {
        let (row, f32_type) = (256u64.to_le_bytes(), [0; 4]);
        [
            &row[..],
            &rows.to_le_bytes(),
            &f32_type,
            &offset.to_le_bytes(),
        ]
        .concat()
    };
    let (first, last) = (&tensors[0], tensors.last().unwrap());
    for (tensor, rows, named, part) in [
        (first, 1 << 62, first, "overflows"),
        (first, 8, &tensors[1], "inside another tensor"),
        (last, 1 << 30, last, "cut short"),
    ] {
        let copy = source.with_file_name("lie.gguf");
        fs::copy(&source, &copy).unwrap();
        patch(&copy, &info(4, tensor.offset), &info(rows, tensor.offset));
        assert_refused(&copy, &["lie.gguf", &named.name, part]);
    }
}

#[test]
fn an_unknown_architecture_or_tensor_type() {
    let (folder, source) = with_model();
    let copy = folder.path().join("copy.gguf");
    fs::copy(&source, &copy).unwrap();
    let architecture = |name: &[u8]| [b"\x08\0\0\0\x05\0\0\0\0\0\0\0", name].concat();
    patch(&copy, &architecture(b"llama"), &architecture(b"alpac"));
    assert_refused(&copy, &["alpac", "cannot be converted", "llama and qwen2"]);

    let info = |number: u32| [b"\x04\0\0\0\0\0\0\0", &number.to_le_bytes()[..], &[0; 8]].concat();
    patch(&source, &info(0), &info(77));
    assert_refused(&source, &["token_embd.weight", "unknown type 77"]);
}

#[test]
fn a_model_without_the_keys_that_decide_the_types() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("m.gguf");
    let mut metadata = ANY.metadata();
    metadata.remove("llama.block_count");
    Writer::create(&source, &metadata, Vec::new())
        .unwrap()
        .finish()
        .unwrap();
    assert_refused(&source, &["llama.block_count is missing"]);
    metadata.set("llama.block_count", 2u32);
    metadata.set("llama.attention.head_count", "four");
    Writer::create(&source, &metadata, Vec::new())
        .unwrap()
        .finish()
        .unwrap();
    assert_refused(&source, &["llama.attention.head_count", "whole number"]);
    metadata.set("llama.attention.head_count", 4u32);
    metadata.set("llama.expert_count", 8u32);
    Writer::create(&source, &metadata, Vec::new())
        .unwrap()
        .finish()
        .unwrap();
    assert_refused(&source, &["mixture of experts"]);
}

#[test]
fn weights_that_are_not_finite_name_their_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("m.gguf");
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        for tensor in ["blk.1.ffn_up.weight", "output_norm.weight"] {
            let spoil = |name: &str, value: f32| if name == tensor { bad } else { value };
            ANY.write_with(&source, spoil);
            assert_refused(&source, &[tensor, shown, "row 0, column 0"]);
        }
    }
    ANY.write_with(&source, |_, value| value * 1e9);
    let run = convert(&source, &folder.path().join("out.gguf"), "F16");
    assert_line(&run, &["token_embd.weight", "too large for F16"]);
}

#[test]
fn a_disk_without_room_is_told_before_the_first_byte() {
    let (folder, source) = with_model();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // A file system of 16 kB, which only this child sees.
    let script = r#"mount -t tmpfs -o size=16k none "$2" || exit 99
        "$0" convert "$1" "$2/out.gguf" --type F16; code=$?; ls -A "$2"; exit $code"#;
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, binary()])
        .args([&source, &disk])
        .output()
        .unwrap();
    let run = Run::from(output);
    assert_line(
        &run,
        &["disk/out.gguf: needs 0.", "its disk has 0.0 MB free"],
    );
    assert_eq!(run.stdout, "", "nothing may be left on the disk");
}

#[test]
fn the_output_may_not_be_the_source_nor_a_folder_nor_in_a_folder_that_is_missing() {
    let (folder, source) = with_model();
    let before = fs::read(&source).unwrap();
    let link = folder.path().join("link.gguf");
    fs::hard_link(&source, &link).unwrap();
    for out in [&source, &link] {
        assert_line(&convert(&source, out, "Q8_0"), &["is the source itself"]);
    }
    let link = folder.path().join("out.gguf.partial");
    fs::hard_link(&source, &link).unwrap();
    let out = folder.path().join("out.gguf");
    assert_line(&convert(&source, &out, "Q8_0"), &["is the source itself"]);
    fs::remove_file(&link).unwrap();
    assert_eq!(fs::read(&source).unwrap(), before);
    assert_line(&convert(&source, folder.path(), "Q8_0"), &["is a folder"]);
    let missing = folder.path().join("no/out.gguf");
    assert_line(
        &convert(&source, &missing, "Q8_0"),
        &["no/out.gguf", "No such file or directory"],
    );
    let args = [
        "convert",
        source.to_str().unwrap(),
        missing.to_str().unwrap(),
    ];
    let run = cloister_quantize(args.iter().chain(&["--type", "Q8_0", "--dry-run"]));
    assert_line(&run, &["no/out.gguf", "No such file or directory"]);
    assert_eq!(run.stdout, "");
    assert_eq!(names_in(folder.path()), ["link.gguf", "source.gguf"]);
}

#[test]
fn wrong_use_is_one_line_and_exit_code_2() {
    let (folder, source) = with_model();
    let run = convert(&source, &folder.path().join("out.gguf"), "Q9_Z");
    let line = run.error_line(2);
    assert!(line.contains("Q9_Z") && line.contains("Q4_K_M"), "{line}");
    for args in [
        &["convert"][..],
        &[],
        &["inspect"],
        &["inspect", "a", "--yaml"],
        &["paint"],
    ] {
        cloister_quantize(args).error_line(2);
    }
}

#[test]
fn a_folder_without_a_file_that_it_needs() {
    let empty = tempfile::tempdir().unwrap();
    assert_refused(empty.path(), &["config.json", "cannot read"]);
    for missing in [
        "config.json",
        "tokenizer.json",
        "model-00002-of-00002.safetensors",
    ] {
        let folder = Folder::of("tiny-r1-qwen");
        fs::remove_file(folder.path().join(missing)).unwrap();
        assert_refused(folder.path(), &[missing, "No such file or directory"]);
    }
    let folder = Folder::of("tiny-llama3");
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_refused(
        folder.path(),
        &["model.safetensors", "No such file or directory"],
    );
}

#[test]
fn a_config_that_is_broken_or_of_another_architecture() {
    let folder = Folder::of("tiny-llama3");
    folder.change("config.json", |c| {
        c["architectures"] = json!(["MambaForCausalLM"])
    });
    assert_refused(
        folder.path(),
        &["config.json", "MambaForCausalLM", "cannot be converted"],
    );
    folder.change("config.json", |c| {
        c["architectures"] = json!(["LlamaForCausalLM"])
    });
    folder.change("config.json", |c| c["hidden_size"] = json!(-64));
    assert_refused(folder.path(), &["config.json", "hidden_size", "positive"]);
    folder.change("config.json", |c| c["hidden_size"] = json!(64));
    folder.change("config.json", |c| {
        c["rope_scaling"]["rope_type"] = json!("longrope")
    });
    assert_refused(folder.path(), &["config.json", "longrope"]);
    fs::write(folder.path().join("config.json"), "{\"archi").unwrap();
    assert_refused(folder.path(), &["config.json", "no sound JSON"]);
}

/// The fixture with one field of config.json changed must be refused by the field and its value.
#[track_caller]
fn assert_config_refused(fixture: &str, field: &str, value: serde_json::Value) {
    let folder = Folder::of(fixture);
    let shown = value.to_string();
    folder.change("config.json", |c| c[field] = value);
    assert_refused(folder.path(), &["config.json", field, &shown]);
}

#[test]
fn a_config_that_llama_cpp_computes_otherwise() {
    for (fixture, field, value) in [
        ("tiny-llama3", "hidden_act", json!("gelu")),
        ("tiny-deepseek", "hidden_act", json!("relu")),
        ("tiny-llama3", "partial_rotary_factor", json!(0.5)),
        ("tiny-qwen2-tied", "attn_logit_softcapping", json!(50.0)),
        (
            "tiny-r1-qwen",
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
        ),
        ("tiny-deepseek", "moe_layer_freq", json!(2)),
        (
            "tiny-deepseek",
            "topk_method",
            json!("group_limited_greedy"),
        ),
        ("tiny-deepseek", "routed_scaling_factor", json!(0.0)),
        ("tiny-deepseek", "routed_scaling_factor", json!(-2.5)),
        ("tiny-r1-qwen3", "rms_norm_eps", json!(0)),
        ("tiny-r1-qwen3", "rms_norm_eps", json!(-1e-6)),
        ("tiny-r1-qwen3", "rms_norm_eps", json!(1e-60)),
        ("tiny-r1-qwen3", "rms_norm_eps", json!(1e60)),
    ] {
        assert_config_refused(fixture, field, value);
    }
    for fixture in ["tiny-qwen2-sparse", "tiny-r1-qwen3"] {
        let folder = Folder::of(fixture);
        folder.change("config.json", |c| {
            c.as_object_mut().unwrap().remove("layer_types");
            c["use_sliding_window"] = json!(true);
            c["max_window_layers"] = json!(0);
            c["sliding_window"] = json!(64);
        });
        assert_refused(
            folder.path(),
            &["config.json", "use_sliding_window is true", "64"],
        );
    }
}

#[test]
fn what_published_configs_say_besides_is_no_contradiction() {
    for (fixture, field, value) in [
        ("tiny-r1-qwen", "sliding_window", json!(64)),
        ("tiny-r1-qwen", "sliding_window", json!(null)),
        ("tiny-r1-qwen3", "max_window_layers", json!(0)),
        ("tiny-llama3", "attn_logit_softcapping", json!(null)),
        ("tiny-deepseek", "moe_layer_freq", json!(1)),
        ("tiny-r1-qwen", "rope_scaling", json!(null)),
    ] {
        let folder = Folder::of(fixture);
        folder.change("config.json", |c| c[field] = value);
        convert(folder.path(), &folder.out(), "F16").succeeded();
    }
}

#[test]
fn rope_settings_that_cannot_be_read_or_contradict_each_other() {
    for (fixture, field, value) in [
        ("tiny-llama3", "rope_theta", json!("500000")),
        ("tiny-llama3", "rope_theta", json!(0)),
        ("tiny-llama3", "rope_theta", json!(1e60)),
        ("tiny-llama3", "rope_scaling", json!("llama3")),
        ("tiny-llama3", "rope_scaling", json!([8.0])),
    ] {
        assert_config_refused(fixture, field, value);
    }
    for (fixture, object, field, value) in [
        ("tiny-llama3", "rope_scaling", "factor", json!("8")),
        ("tiny-llama3", "rope_scaling", "factor", json!(0)),
        (
            "tiny-llama3",
            "rope_scaling",
            "high_freq_factor",
            json!([4]),
        ),
        ("tiny-llama3", "rope_scaling", "low_freq_factor", json!(4.0)),
        ("tiny-llama3", "rope_scaling", "rope_type", json!(3)),
        ("tiny-llama3", "rope_scaling", "rope_theta", json!(10001.0)),
        ("tiny-r1-qwen3", "rope_scaling", "factor", json!(-4.0)),
        ("tiny-r1-qwen3", "rope_scaling", "attn_factor", json!(true)),
        (
            "tiny-r1-qwen3",
            "rope_scaling",
            "attention_factor",
            json!(2.0),
        ),
        (
            "tiny-r1-qwen3",
            "rope_scaling",
            "rope_type",
            json!("llama3"),
        ),
        (
            "tiny-r1-qwen3",
            "rope_scaling",
            "partial_rotary_factor",
            json!(0.5),
        ),
        (
            "tiny-r1-qwen3",
            "rope_scaling",
            "full_attention",
            json!({"factor": 2}),
        ),
        (
            "tiny-qwen2-tied",
            "rope_parameters",
            "beta_fast",
            json!("32"),
        ),
        (
            "tiny-qwen2-tied",
            "rope_parameters",
            "original_max_position_embeddings",
            json!("256"),
        ),
        (
            "tiny-deepseek",
            "rope_scaling",
            "mscale_all_dim",
            json!("1.0"),
        ),
    ] {
        let folder = Folder::of(fixture);
        let shown = value.to_string();
        folder.change("config.json", |c| c[object][field] = value);
        let shown = if field == "low_freq_factor" {
            "4"
        } else {
            &shown
        };
        assert_refused(folder.path(), &["config.json", field, shown]);
    }
    // Two places, and two names, for one thing.
    let folder = Folder::of("tiny-r1-qwen3");
    folder.change("config.json", |c| {
        c["rope_parameters"] = json!({"factor": 2.0})
    });
    assert_refused(folder.path(), &["factor", "2.0", "4.0"]);
    folder.change("config.json", |c| {
        c["rope_parameters"] = json!({"rope_type": "default"})
    });
    assert_refused(folder.path(), &["rope_type", "default", "yarn"]);
    folder.change("config.json", |c| {
        c["rope_parameters"] = json!({"factor": 4, "type": "yarn"})
    });
    convert(folder.path(), &folder.out(), "F16").succeeded();
}

#[test]
fn a_tensor_type_that_changes_nothing() {
    let (folder, source) = with_model();
    let out = folder.path().join("out.gguf");
    for dry in [&[][..], &["--dry-run"]] {
        for (own, file_type, part) in [
            ("ffn_dwon=Q6_K", "Q4_K_M", "matches the name of no tensor"),
            ("attn_norm=Q6_K", "Q4_K_M", "matches the name of no tensor"),
            ("ffn_down=Q6_K", "F32", "no effect"),
            ("ffn_down=Q6_K", "F16", "no effect"),
            ("ffn_down=Q6_K", "BF16", "no effect"),
        ] {
            let args = ["convert", source.to_str().unwrap(), out.to_str().unwrap()];
            let more = ["--type", file_type, "--tensor-type", own];
            let run = cloister_quantize(args.iter().chain(&more).chain(dry));
            assert_line(&run, &["--tensor-type", own, part]);
        }
    }
    assert_eq!(names_in(folder.path()), ["source.gguf"]);
}

#[test]
fn a_config_of_another_shape_than_the_tensors() {
    let folder = Folder::of("tiny-qwen2-tied");
    folder.change("config.json", |c| c["intermediate_size"] = json!(96));
    assert_refused(
        folder.path(),
        &[
            "model.layers.0.mlp.gate_proj.weight",
            "[128, 64]",
            "[96, 64]",
        ],
    );
    folder.change("config.json", |c| c["intermediate_size"] = json!(128));
    folder.change("config.json", |c| c["num_hidden_layers"] = json!(3));
    assert_refused(folder.path(), &["model.layers.2.", "is missing"]);
    folder.change("config.json", |c| c["num_hidden_layers"] = json!(1));
    assert_refused(folder.path(), &["model.layers.1.", "not known here"]);
    // Millions of layers are refused by the first that is missing, not by the memory running out.
    folder.change("config.json", |c| {
        c["num_hidden_layers"] = json!(4_000_000_000u32)
    });
    assert_refused(folder.path(), &["model.layers.2.", "is missing"]);
}

#[test]
fn a_tensor_that_the_index_promises_and_the_shard_lacks() {
    let folder = Folder::of("tiny-r1-qwen");
    folder.change("model.safetensors.index.json", |index| {
        index["weight_map"]["model.more.weight"] = json!("model-00001-of-00002.safetensors");
    });
    assert_refused(
        folder.path(),
        &[
            "model-00001-of-00002.safetensors",
            "model.more.weight",
            "missing",
            "index.json says is in it",
        ],
    );
    folder.change("model.safetensors.index.json", |index| {
        index["weight_map"]["model.more.weight"] = json!("../../etc/model.safetensors");
    });
    assert_refused(
        folder.path(),
        &["index.json", "no safetensors file beside the index"],
    );
}

#[test]
fn a_shard_that_is_missing_or_one_too_many() {
    let [first, second] = [1, 2].map(|i| format!("model-0000{i}-of-00002.safetensors"));
    let missing = |index: bool| {
        let folder = Folder::of("tiny-r1-qwen");
        fs::remove_file(folder.path().join(&second)).unwrap();
        if !index {
            fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
        }
        folder
    };
    assert_refused(missing(true).path(), &[&second, "cannot open"]);
    assert_refused(missing(false).path(), &[&second, "this shard is missing"]);

    let folder = Folder::of("tiny-r1-qwen");
    let extra = "model-00003-of-00003.safetensors";
    fs::copy(folder.path().join(&first), folder.path().join(extra)).unwrap();
    assert_refused(folder.path(), &[extra, "is not in", "index.json"]);

    let folder = Folder::of("tiny-r1-qwen");
    let norm = "model.norm.weight";
    folder.change("model.safetensors.index.json", |index| {
        index["weight_map"].as_object_mut().unwrap().remove(norm);
    });
    assert_refused(folder.path(), &[norm, "is not in", "index.json"]);
}

#[test]
fn a_safetensors_header_that_lies() {
    let folder = Folder::of("tiny-llama3");
    let path = folder.path().join("model.safetensors");
    let sound = fs::read(&path).unwrap();
    let lie = |change: &dyn Fn(&mut serde_json::Value)| {
        let len = u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
        let mut header = serde_json::from_slice(&sound[8..8 + len]).unwrap();
        change(&mut header);
        let header = header.to_string();
        let start = (header.len() as u64).to_le_bytes();
        fs::write(
            &path,
            [&start[..], header.as_bytes(), &sound[8 + len..]].concat(),
        )
        .unwrap();
    };
    let norm = "model.norm.weight";
    lie(&|h| h[norm]["data_offsets"] = json!([0, 1u64 << 40]));
    assert_refused(
        folder.path(),
        &["model.safetensors", norm, "are not [64] of F32"],
    );
    lie(&|h| h[norm]["data_offsets"] = json!([1u64 << 40, (1u64 << 40) + 256]));
    assert_refused(folder.path(), &["model.safetensors", norm, "cut short"]);
    // Two tensors in one place.
    lie(&|h| h[norm]["data_offsets"] = json!([0, 256]));
    assert_refused(folder.path(), &["model.safetensors", "damaged", "overlap"]);
    lie(&|h| h[norm]["data_offsets"] = json!([256, 0]));
    assert_refused(folder.path(), &["model.safetensors", norm, "damaged"]);
    lie(&|h| h[norm]["shape"] = json!([1u64 << 63, 4]));
    assert_refused(folder.path(), &["model.safetensors", norm, "damaged"]);
    lie(&|h| h[norm]["dtype"] = json!("F8_E4M3"));
    assert_refused(folder.path(), &["model.safetensors", norm, "F8_E4M3"]);
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    assert_refused(folder.path(), &["model.safetensors", "damaged"]);
    fs::write(&path, &sound[..sound.len() - 1]).unwrap();
    assert_refused(folder.path(), &["model.safetensors", "cut short"]);
    fs::write(
        &path,
        "version https://git-lfs.github.com/spec/v1
oid sha256:0
size 1
",
    )
    .unwrap();
    assert_refused(
        folder.path(),
        &["model.safetensors", "Git LFS pointer", "git lfs pull"],
    );
    fs::write(&path, "PK").unwrap();
    assert_refused(folder.path(), &["model.safetensors", "no safetensors file"]);
}

#[test]
fn a_tokenizer_that_is_not_known_is_refused_and_not_guessed() {
    let folder = Folder::of("tiny-qwen2-tied");
    folder.change("tokenizer.json", |t| {
        t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\w+");
    });
    assert_refused(
        folder.path(),
        &["tokenizer.json", "pre_tokenizer is not known"],
    );
    folder.change("tokenizer.json", |t| t["model"]["type"] = json!("Unigram"));
    assert_refused(folder.path(), &["tokenizer.json", "no byte-level BPE"]);
    let folder = Folder::of("tiny-qwen2-tied");
    folder.change("tokenizer.json", |t| {
        t["model"]["vocab"]["fox"] = json!(310)
    });
    assert_refused(folder.path(), &["tokenizer.json", "310", "vocab_size"]);
    let folder = Folder::of("tiny-qwen2-tied");
    folder.change("tokenizer.json", |t| t["model"]["vocab"]["fox"] = json!(5));
    assert_refused(
        folder.path(),
        &["tokenizer.json", "two tokens have the id 5"],
    );
    let folder = Folder::of("tiny-qwen2-tied");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join("tokenizer.model"), "spm").unwrap();
    assert_refused(folder.path(), &["SentencePiece"]);
}

#[test]
fn what_was_there_under_the_final_name_stays_when_a_conversion_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("m.gguf"), folder.path().join("out.gguf"));
    ANY.write(&source);
    convert(&source, &out, "Q8_0").succeeded();
    let before = fs::read(&out).unwrap();
    // NaN in the last tensor, when most of the file is written.
    let last = ANY.tensors().last().unwrap().name.clone();
    ANY.write_with(
        &source,
        |name, value| if name == last { f32::NAN } else { value },
    );
    assert_line(&convert(&source, &out, "Q8_0"), &[&last, "NaN"]);
    assert_eq!(fs::read(&out).unwrap(), before);
    assert_eq!(names_in(folder.path()), ["m.gguf", "out.gguf"]);
}

#[test]
fn a_type_that_no_weights_can_be_read_from() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("m.gguf");
    let mut tensors = ANY.tensors();
    tensors[0].tensor_type = TensorType::I32;
    let mut writer = Writer::create(&source, &ANY.metadata(), tensors).unwrap();
    while let Some(tensor) = writer.next_tensor() {
        let bytes = vec![0; tensor.bytes() as usize];
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap();
    Gguf::open(&source).unwrap();
    assert_refused(&source, &["token_embd.weight", "I32 cannot be converted"]);
}
