//! DeepSeek-V3's checkpoints hold what no other does: scales beside FP8 weights, experts one by one,
//! keys and values in one matrix. What is wrong with them is told by the tensor's own name and its
//! shard, before anything is written where it can be known before.

mod support;

use serde_json::json;
use support::hugging_face::{Folder, Stored};
use support::{convert, names_in};

const EXPERT: &str = "model.layers.1.mlp.experts.5.up_proj.weight";
const KEYS_AND_VALUES: &str = "model.layers.0.self_attn.kv_b_proj.weight";

/// The folder must be refused with a line that has all of `parts`, and nothing may be left.
#[track_caller]
fn assert_refused(folder: &Folder, parts: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let run = convert(folder.path(), &out.path().join("out.gguf"), "F16");
    let line = run.error_line(1);
    for part in parts {
        assert!(line.contains(part), "{line:?} should contain {part:?}");
    }
    assert_eq!(names_in(out.path()), [] as [&str; 0]);
}

/// A copy of `fixture` whose tensor `name` was changed, and the shard that holds it.
fn with_changed(fixture: &str, name: &str, change: impl Fn(&mut Stored)) -> (Folder, String) {
    let folder = Folder::of(fixture);
    folder.write_weights_with(|tensor| {
        if tensor.name == name {
            change(tensor);
        }
    });
    let shard = folder.shard(name);
    (folder, shard)
}

/// A copy of `fixture` whose tensor `name` is neither in the index nor in its shard.
fn without(fixture: &str, name: &str) -> Folder {
    let folder = Folder::of(fixture);
    let shard = folder.path().join(folder.shard(name));
    folder.change("model.safetensors.index.json", |index| {
        index["weight_map"].as_object_mut().unwrap().remove(name);
    });
    let bytes = std::fs::read(&shard).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let data = &bytes[8 + len..];
    let kept = header
        .iter()
        .filter(|(key, _)| *key != name && *key != "__metadata__");
    let kept: Vec<Stored> = kept
        .map(|(key, entry)| Stored::entry(key, entry, data))
        .collect();
    std::fs::write(shard, support::hugging_face::safetensors(&kept)).unwrap();
    folder
}

#[test]
fn an_fp8_tensor_without_its_scales() {
    let scales = format!("{EXPERT}_scale_inv");
    let folder = without("tiny-deepseek-fp8", &scales);
    assert_refused(
        &folder,
        &[&folder.shard(EXPERT), &scales, "is missing", "scales of"],
    );
}

#[test]
fn scales_of_another_shape_than_the_blocks() {
    let scales = format!("{EXPERT}_scale_inv");
    let (folder, shard) = with_changed("tiny-deepseek-fp8", &scales, |tensor| {
        tensor.shape = vec![4, 1];
    });
    assert_refused(&folder, &[&shard, &scales, "[4, 1]", "[2, 2]"]);
}

#[test]
fn scales_of_a_tensor_that_is_not_fp8() {
    let name = "model.layers.0.mlp.up_proj.weight";
    let (folder, shard) = with_changed("tiny-deepseek-fp8", name, |tensor| {
        tensor.dtype = "BF16";
        tensor.bytes = vec![0; tensor.bytes.len() * 2];
    });
    let scales = format!("{name}_scale_inv");
    assert_refused(&folder, &[&shard, &scales, "not known here"]);
}

#[test]
fn an_fp8_tensor_of_a_config_that_says_nothing_of_fp8() {
    let folder = Folder::of("tiny-deepseek-fp8");
    folder.change("config.json", |config| {
        config
            .as_object_mut()
            .unwrap()
            .remove("quantization_config");
    });
    assert_refused(
        &folder,
        &[
            ".safetensors: tensor model.",
            "F8_E4M3",
            "config.json says no blocks",
        ],
    );
}

#[test]
fn ways_to_quantize_that_are_not_known() {
    for (field, value) in [
        ("quant_method", json!("awq")),
        ("fmt", json!("e5m2")),
        ("weight_block_size", json!([128])),
        ("weight_block_size", json!(null)),
    ] {
        let folder = Folder::of("tiny-deepseek-fp8");
        folder.change("config.json", |c| c["quantization_config"][field] = value);
        assert_refused(&folder, &["config.json", "quantization_config", field]);
    }
}

#[test]
fn an_expert_that_is_missing_or_one_too_many() {
    let folder = without("tiny-deepseek", EXPERT);
    assert_refused(&folder, &[EXPERT, "is missing"]);
    let folder = Folder::of("tiny-deepseek");
    folder.change("config.json", |c| c["n_routed_experts"] = json!(12));
    assert_refused(&folder, &["mlp.gate.weight", "[8, 64]", "[12, 64]"]);
}

#[test]
fn an_expert_of_another_shape_or_type_than_the_others() {
    let (folder, shard) = with_changed("tiny-deepseek", EXPERT, |tensor| {
        tensor.shape.reverse();
    });
    assert_refused(&folder, &[&shard, EXPERT, "[64, 32]", "[32, 64]"]);
    let (folder, shard) = with_changed("tiny-deepseek", EXPERT, |tensor| tensor.dtype = "F16");
    assert_refused(&folder, &[&shard, EXPERT, "another type than expert 0's"]);
}

#[test]
fn keys_and_values_of_another_shape_than_the_heads() {
    let (folder, shard) = with_changed("tiny-deepseek", KEYS_AND_VALUES, |tensor| {
        tensor.shape = vec![112, 64];
    });
    assert_refused(
        &folder,
        &[&shard, KEYS_AND_VALUES, "[112, 64]", "[224, 32]"],
    );
    let folder = Folder::of("tiny-deepseek");
    folder.change("config.json", |c| c["v_head_dim"] = json!(32));
    assert_refused(
        &folder,
        &["self_attn.o_proj.weight", "[64, 96]", "[64, 128]"],
    );
}

#[test]
fn weights_that_are_nan_name_their_tensor_in_its_shard() {
    let put = |at: usize, bytes: &'static [u8]| {
        move |tensor: &mut Stored| tensor.bytes[at..at + bytes.len()].copy_from_slice(bytes)
    };
    let nan_bf16: &[u8] = &[0xc0, 0x7f];
    // Row 7, column 3 of an expert that lies in the middle of a stack.
    let (folder, shard) = with_changed("tiny-deepseek", EXPERT, put((7 * 64 + 3) * 2, nan_bf16));
    assert_refused(&folder, &[&shard, EXPERT, "NaN at row 7, column 3"]);
    // Of the second head (56 rows) a key, which is transposed, and a value.
    for row in [56 + 5, 56 + 32 + 5] {
        let change = put((row * 32 + 9) * 2, nan_bf16);
        let (folder, shard) = with_changed("tiny-deepseek", KEYS_AND_VALUES, change);
        let place = format!("NaN at row {row}, column 9");
        assert_refused(&folder, &[&shard, KEYS_AND_VALUES, &place]);
    }
    // FP8 has a code for it.
    let (folder, shard) = with_changed("tiny-deepseek-fp8", EXPERT, put(130 * 136 + 131, &[0x7f]));
    assert_refused(&folder, &[&shard, EXPERT, "NaN at row 130, column 131"]);
    // A scale may be infinite.
    let scales = format!("{EXPERT}_scale_inv");
    let change = put(4, &[0, 0, 0x80, 0x7f]);
    let (folder, shard) = with_changed("tiny-deepseek-fp8", &scales, change);
    assert_refused(&folder, &[&shard, EXPERT, "at row 0, column 128"]);
}

#[test]
fn rows_that_change_places_are_named_by_their_old_one() {
    let folder = Folder::of("tiny-llama3");
    let name = "model.layers.0.self_attn.q_proj.weight";
    let row = 32 + 19; // of the second head
    folder.write_weights_with(|tensor| {
        if tensor.name == name {
            let at = (row * 64 + 5) * 4;
            tensor.bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    let place = format!("NaN at row {row}, column 5");
    assert_refused(&folder, &["model.safetensors", name, &place]);
}

#[test]
fn a_rotation_that_gguf_cannot_tell() {
    let folder = Folder::of("tiny-deepseek");
    folder.change("config.json", |c| c["rope_interleave"] = json!(false));
    assert_refused(&folder, &["config.json", "rope_interleave"]);
    let folder = Folder::of("tiny-deepseek");
    folder.change("config.json", |c| c["scoring_func"] = json!("sqrtsoftplus"));
    assert_refused(&folder, &["config.json", "scoring_func", "sqrtsoftplus"]);
}

#[test]
fn experts_that_nobody_can_choose() {
    for (field, value) in [
        ("num_experts_per_tok", 9),
        ("n_group", 3),
        ("n_group", 8),
        ("topk_group", 4),
        ("topk_group", 5),
    ] {
        let folder = Folder::of("tiny-deepseek");
        folder.change("config.json", |c| c[field] = json!(value));
        assert_refused(&folder, &["config.json", field, &value.to_string()]);
    }
    // One group is no choice of groups.
    let folder = Folder::of("tiny-deepseek");
    folder.change("config.json", |c| {
        c["n_group"] = json!(1);
        c["topk_group"] = json!(1);
    });
    convert(folder.path(), &folder.out(), "F16").succeeded();
}
