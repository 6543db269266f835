//! `convert` chooses the same types and makes the same bytes as llama.cpp's own
//! `llama_model_quantize`, the function behind `llama-quantize`, of the version that is linked here.

mod support;

use llama_cpp_sys_2 as sys;
use support::llama_quantize::{FILE_TYPES, Given, assert_same, assert_same_given};
use support::{RandomModel, convert, fetched};

/// Some that need one, and those whose mix changes with one.
const WITH_IMATRIX: [(&str, sys::llama_ftype); 10] = [
    ("Q4_K_M", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    ("Q5_0", sys::LLAMA_FTYPE_MOSTLY_Q5_0),
    ("IQ4_XS", sys::LLAMA_FTYPE_MOSTLY_IQ4_XS),
    ("Q3_K_M", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
    ("IQ3_M", sys::LLAMA_FTYPE_MOSTLY_IQ3_M),
    ("IQ3_XS", sys::LLAMA_FTYPE_MOSTLY_IQ3_XS),
    ("IQ3_XXS", sys::LLAMA_FTYPE_MOSTLY_IQ3_XXS),
    ("Q2_K", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
    ("Q2_K_S", sys::LLAMA_FTYPE_MOSTLY_Q2_K_S),
];

fn assert_all_types_same(model: RandomModel) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    model.write(&source);
    for file_type in FILE_TYPES {
        assert_same(&source, file_type);
    }
}

#[test]
fn a_llama_with_shared_heads_and_tied_embeddings() {
    assert_all_types_same(RandomModel {
        architecture: "llama",
        layers: 33,
        heads: 32,
        heads_kv: 8,
        hidden: 512,
        feed_forward: 768,
        tied: true,
    });
}

#[test]
fn a_qwen2_that_shares_no_heads_and_has_its_own_output() {
    assert_all_types_same(RandomModel {
        architecture: "qwen2",
        layers: 17,
        heads: 8,
        heads_kv: 8,
        hidden: 256,
        feed_forward: 512,
        tied: false,
    });
}

#[test]
fn the_70b_shape_gives_the_value_projection_more_bits() {
    for (architecture, heads_kv) in [("llama", 8), ("llama", 64), ("qwen2", 8), ("qwen2", 64)] {
        assert_all_types_same(RandomModel {
            architecture,
            layers: 80,
            heads: 64,
            heads_kv,
            hidden: 256,
            feed_forward: 256,
            tied: false,
        });
    }
}

#[test]
fn rows_that_fill_no_super_block_fall_back() {
    for hidden in [288, 80] {
        for tied in [true, false] {
            assert_all_types_same(RandomModel {
                architecture: "qwen2",
                layers: 9,
                heads: 4,
                heads_kv: 1,
                hidden,
                feed_forward: 512,
                tied,
            });
        }
    }
}

#[test]
fn a_model_that_is_quantized_already() {
    let folder = tempfile::tempdir().unwrap();
    let (float, quantized) = (folder.path().join("f.gguf"), folder.path().join("q.gguf"));
    support::ANY.write(&float);
    for from in ["F16", "BF16", "Q5_K_M", "IQ4_XS", "Q2_K"] {
        convert(&float, &quantized, from).succeeded();
        for file_type in FILE_TYPES {
            assert_same(&quantized, file_type);
        }
    }
}

#[test]
fn with_an_importance_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    let model = RandomModel {
        architecture: "llama",
        layers: 9,
        heads: 8,
        heads_kv: 8,
        hidden: 256,
        feed_forward: 256,
        tied: false,
    };
    model.write(&source);
    let given = Given::imatrix_of(&source);
    for file_type in WITH_IMATRIX {
        assert_same_given(&source, file_type, &given);
    }
}

#[test]
fn with_types_of_one_s_own() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    let model = RandomModel {
        architecture: "qwen2",
        layers: 17,
        heads: 8,
        heads_kv: 2,
        hidden: 256,
        feed_forward: 512,
        tied: false,
    };
    model.write(&source);
    let given = Given {
        overrides: vec![
            (r"blk\.[0-3]\.attn_v", "q8_0", sys::GGML_TYPE_Q8_0),
            ("attn_v", "Q3_K", sys::GGML_TYPE_Q3_K),
            ("ffn_(up|gate)", "F16", sys::GGML_TYPE_F16),
            ("^output", "Q4_K", sys::GGML_TYPE_Q4_K),
            (r"blk\.5\.ffn_down", "Q5_0", sys::GGML_TYPE_Q5_0),
        ],
        ..Given::default()
    };
    // Not F16: where they would change nothing, as there, they are refused.
    for name in ["Q4_K_M", "Q3_K_M", "Q8_0"] {
        let file_type = FILE_TYPES.into_iter().find(|t| t.0 == name).unwrap();
        assert_same_given(&source, file_type, &given);
    }
}

#[test]
fn smollm2_to_q4_0_as_the_demo_serves_it() {
    assert_same(
        &fetched("smollm2-135m-instruct-q4_1.gguf"),
        ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    );
}
