//! `convert` chooses the same types and makes the same bytes as llama.cpp's own
//! `llama_model_quantize`, the function behind `llama-quantize`, of the version that is linked here.

mod support;

use std::ffi::{CString, c_char, c_void};
use std::path::Path;

use cloister_gguf::Gguf;
use llama_cpp_sys_2 as sys;
use support::{RandomModel, convert, fetched, tensor_bytes};

/// Every file type with llama.cpp's number for it.
const FILE_TYPES: [(&str, sys::llama_ftype); 10] = [
    ("F16", sys::LLAMA_FTYPE_MOSTLY_F16),
    ("BF16", sys::LLAMA_FTYPE_MOSTLY_BF16),
    ("Q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
    ("Q6_K", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
    ("Q5_K_M", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("Q4_K_M", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    ("Q3_K_M", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
    ("Q2_K", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
    ("IQ4_XS", sys::LLAMA_FTYPE_MOSTLY_IQ4_XS),
];

extern "C" fn silent(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

fn llama_quantize(source: &Path, out: &Path, file_type: sys::llama_ftype) {
    let (source, out) = [source, out]
        .map(|p| CString::new(p.to_str().unwrap()).unwrap())
        .into();
    // SAFETY: the paths and the parameters outlive the call; the callback ignores its arguments.
    let code = unsafe {
        sys::llama_log_set(Some(silent), std::ptr::null_mut());
        let mut params = sys::llama_model_quantize_default_params();
        params.ftype = file_type;
        params.allow_requantize = true;
        params.nthread = 2;
        sys::llama_model_quantize(source.as_ptr(), out.as_ptr(), &params)
    };
    assert_eq!(code, 0, "llama_model_quantize failed");
}

#[track_caller]
fn assert_same(source: &Path, (name, number): (&str, sys::llama_ftype)) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        folder.path().join("ours.gguf"),
        folder.path().join("theirs.gguf"),
    );
    convert(source, &ours, name).succeeded();
    llama_quantize(source, &theirs, number);
    let (ours, theirs) = (Gguf::open(&ours).unwrap(), Gguf::open(&theirs).unwrap());

    assert_eq!(ours.tensors.len(), theirs.tensors.len());
    for mine in &ours.tensors {
        let other = theirs.tensor(&mine.name).unwrap();
        assert_eq!(
            (mine.tensor_type, &mine.dims),
            (other.tensor_type, &other.dims),
            "{name}: {mine:?}"
        );
        let same = tensor_bytes(&ours, mine) == tensor_bytes(&theirs, other);
        assert!(same, "{name}: bytes of {} differ", mine.name);
    }
    assert_eq!(ours.metadata.len(), theirs.metadata.len(), "{name}");
    for (key, value) in theirs.metadata.iter() {
        assert_eq!(ours.metadata.get(key), Some(value), "{name}: {key}");
    }
}

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
fn smollm2_to_q4_0_as_the_demo_serves_it() {
    assert_same(
        &fetched("smollm2-135m-instruct-q4_1.gguf"),
        ("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    );
}
