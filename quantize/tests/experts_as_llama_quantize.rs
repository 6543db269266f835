//! A model of stacked experts and latent attention becomes what llama.cpp's `llama_model_quantize`
//! makes of it, with and without an importance matrix, which has sums for each expert.

mod support;

use std::path::{Path, PathBuf};

use cloister_gguf::{Gguf, Metadata, TensorInfo, TensorType, Writer};
use llama_cpp_sys_2 as sys;
use support::llama_quantize::{FILE_TYPES, Given, assert_same, assert_same_given};
use support::{cloister_quantize, random_weights};

const EXPERTS: u64 = 4;

/// Names, shapes and keys of a deepseek2 with a dense layer and some with experts. Rows fill
/// super-blocks but in `attn_k_b`, as in R1; there are few of them.
fn deepseek(folder: &Path) -> PathBuf {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", "deepseek2");
    metadata.set("general.name", "random");
    for (key, value) in [
        ("block_count", 4u32),
        ("context_length", 64),
        ("embedding_length", 256),
        ("feed_forward_length", 256),
        ("expert_feed_forward_length", 256),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.q_lora_rank", 256),
        ("attention.kv_lora_rank", 256),
        ("attention.key_length", 264),
        ("attention.value_length", 256),
        ("attention.key_length_mla", 40),
        ("attention.value_length_mla", 4),
        ("rope.dimension_count", 8),
        ("leading_dense_block_count", 1),
        ("expert_count", EXPERTS as u32),
        ("expert_used_count", 2),
        ("expert_shared_count", 1),
        ("expert_gating_func", 2),
        ("vocab_size", 4),
    ] {
        metadata.set(&format!("deepseek2.{key}"), value);
    }
    metadata.set("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f32);
    let tensor =
        |name: &str, dims: &[u64]| TensorInfo::new(name, dims.to_vec(), TensorType::F32).unwrap();
    let mut tensors = vec![
        tensor("token_embd.weight", &[256, 4]),
        tensor("output_norm.weight", &[256]),
        tensor("output.weight", &[256, 4]),
    ];
    for layer in 0..4 {
        let attention = [
            ("attn_norm.weight", &[256][..]),
            ("attn_q_a.weight", &[256, 4]),
            ("attn_q_a_norm.weight", &[256]),
            ("attn_q_b.weight", &[256, 4]),
            ("attn_kv_a_mqa.weight", &[256, 4]),
            ("attn_kv_a_norm.weight", &[256]),
            ("attn_k_b.weight", &[32, 4, 2]),
            ("attn_v_b.weight", &[256, 4, 2]),
            ("attn_output.weight", &[256, 4]),
            ("ffn_norm.weight", &[256]),
        ];
        let dense = ["ffn_gate", "ffn_up", "ffn_down"].map(|name| format!("{name}.weight"));
        let shared = ["ffn_gate", "ffn_up", "ffn_down"].map(|name| format!("{name}_shexp.weight"));
        let stacked = ["ffn_gate", "ffn_up", "ffn_down"].map(|name| format!("{name}_exps.weight"));
        let mut add = |name: &str, dims: &[u64]| {
            tensors.push(tensor(&format!("blk.{layer}.{name}"), dims));
        };
        for (name, dims) in attention {
            add(name, dims);
        }
        if layer == 0 {
            dense.iter().for_each(|name| add(name, &[256, 4]));
            continue;
        }
        add("ffn_gate_inp.weight", &[256, EXPERTS]);
        add("exp_probs_b.bias", &[EXPERTS]);
        shared.iter().for_each(|name| add(name, &[256, 4]));
        stacked
            .iter()
            .for_each(|name| add(name, &[256, 4, EXPERTS]));
    }
    let path = folder.join("source.gguf");
    let mut writer = Writer::create(&path, &metadata, tensors).unwrap();
    let mut weights = random_weights();
    while let Some(tensor) = writer.next_tensor() {
        let values = weights.by_ref().take(tensor.elements() as usize);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// Types whose bytes change with an importance matrix; some need one.
const WITH_IMATRIX: [(&str, sys::llama_ftype); 10] = [
    ("IQ2_XS", sys::LLAMA_FTYPE_MOSTLY_IQ2_XS),
    ("IQ3_XXS", sys::LLAMA_FTYPE_MOSTLY_IQ3_XXS),
    ("IQ3_M", sys::LLAMA_FTYPE_MOSTLY_IQ3_M),
    ("IQ4_XS", sys::LLAMA_FTYPE_MOSTLY_IQ4_XS),
    ("Q2_K_S", sys::LLAMA_FTYPE_MOSTLY_Q2_K_S),
    ("Q2_K", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
    ("Q3_K_M", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
    ("Q4_K_M", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("Q5_K_M", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("Q6_K", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
];

/// The same of those for whose tables ggml computes for seconds.
const WITH_LARGE_TABLES: [(&str, sys::llama_ftype); 6] = [
    ("IQ1_S", sys::LLAMA_FTYPE_MOSTLY_IQ1_S),
    ("IQ1_M", sys::LLAMA_FTYPE_MOSTLY_IQ1_M),
    ("IQ2_XXS", sys::LLAMA_FTYPE_MOSTLY_IQ2_XXS),
    ("IQ2_S", sys::LLAMA_FTYPE_MOSTLY_IQ2_S),
    ("IQ2_M", sys::LLAMA_FTYPE_MOSTLY_IQ2_M),
    ("IQ3_XS", sys::LLAMA_FTYPE_MOSTLY_IQ3_XS),
];

/// The importance matrix of every matrix, the outer ones too: some low types want them.
fn imatrix_of(source: &Path) -> Given {
    let mut given = Given::imatrix_of(source);
    for name in ["token_embd.weight", "output.weight"] {
        let sums = (0..256).map(|i| (i * 31 % 97 + 1) as f32).collect();
        given.imatrix.push((name.to_owned(), sums, vec![7.0]));
    }
    given
}

#[test]
fn every_type_without_an_importance_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let source = deepseek(folder.path());
    for file_type in FILE_TYPES {
        assert_same(&source, file_type);
    }
}

fn assert_same_with_imatrix(file_types: &[(&str, sys::llama_ftype)]) {
    let folder = tempfile::tempdir().unwrap();
    let source = deepseek(folder.path());
    let given = imatrix_of(&source);
    for file_type in file_types {
        assert_same_given(&source, *file_type, &given);
    }
}

/// Columns that no activation has met: one, a few, a whole block, all of an expert.
fn assert_same_with_zeros(file_types: &[(&str, sys::llama_ftype)]) {
    let folder = tempfile::tempdir().unwrap();
    let source = deepseek(folder.path());
    let mut given = imatrix_of(&source);
    for (i, (_, sums, counts)) in given.imatrix.iter_mut().enumerate() {
        let columns = sums.len() / counts.len();
        let zeros = [0..1, 5..13, 0..columns / 8, 0..columns][i % 4].clone();
        sums[zeros].fill(0.0);
    }
    for file_type in file_types {
        assert_same_given(&source, *file_type, &given);
    }
}

#[test]
fn types_with_an_importance_matrix_for_each_expert() {
    assert_same_with_imatrix(&WITH_IMATRIX);
}

#[test]
#[ignore = "ggml's tables take a minute"]
fn types_down_to_one_bit_with_an_importance_matrix_for_each_expert() {
    assert_same_with_imatrix(&WITH_LARGE_TABLES);
}

#[test]
fn types_with_columns_that_no_activation_has_met() {
    assert_same_with_zeros(&WITH_IMATRIX);
}

#[test]
#[ignore = "ggml's tables take a minute"]
fn types_down_to_one_bit_with_columns_that_no_activation_has_met() {
    assert_same_with_zeros(&WITH_LARGE_TABLES);
}

/// What is served is our own mix, of other types for the same experts.
#[test]
fn our_own_mix_takes_the_same_importance_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let source = deepseek(folder.path());
    let [imatrix, out] = ["imatrix.gguf", "out.gguf"].map(|name| folder.path().join(name));
    imatrix_of(&source).write_imatrix(&imatrix);
    let paths = [&source, &out, &imatrix].map(|p| p.to_str().unwrap());
    let [source, out, imatrix] = paths;
    let args = ["convert", source, out, "--imatrix", imatrix];
    cloister_quantize(args.into_iter().chain(["--type", "IQ2_XS"])).succeeded();
    let gguf = Gguf::open(Path::new(out)).unwrap();
    let of = |name: &str| gguf.tensor(name).unwrap().tensor_type;
    assert_eq!(of("blk.1.ffn_gate_exps.weight"), TensorType::IQ2_XS);
    assert_eq!(of("blk.1.attn_q_a.weight"), TensorType::Q4_K);
}
