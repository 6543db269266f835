//! The memory arithmetic of `cloister-gguf` against what the linked llama.cpp allocates for models of the
//! R1 family's shapes. The files are headers before a hole: llama.cpp only simulates the allocations.

use cloister_gguf::*;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::Mutex;

static LOG: Mutex<String> = Mutex::new(String::new());
unsafe extern "C" fn keep(_: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: NUL-terminated text of llama.cpp.
    LOG.lock()
        .unwrap()
        .push_str(&unsafe { CStr::from_ptr(text) }.to_string_lossy());
}

#[derive(Clone, Copy)]
struct Shape {
    arch: &'static str,
    layers: u64,
    hidden: u64,
    heads: u64,
    kv: u64,
    head: u64,
    ff: u64,
    vocab: u64,
    tied: bool,
}

fn header(s: &Shape) -> (Metadata, Vec<TensorInfo>) {
    let mut m = Metadata::default();
    let a = s.arch;
    m.set("general.architecture", a);
    m.set("tokenizer.ggml.model", "none");
    for (k, v) in [
        ("block_count", s.layers),
        ("context_length", 131072),
        ("embedding_length", s.hidden),
        ("feed_forward_length", s.ff),
        ("attention.head_count", s.heads),
        ("attention.head_count_kv", s.kv),
        ("vocab_size", s.vocab),
    ] {
        m.set(&format!("{a}.{k}"), v as u32);
    }
    m.set(&format!("{a}.attention.layer_norm_rms_epsilon"), 1e-6f32);
    let mut t = vec![];
    let mut add = |n: String, d: &[u64], q: bool| {
        t.push(
            TensorInfo::new(
                n,
                d.to_vec(),
                if q { TensorType::Q8_0 } else { TensorType::F32 },
            )
            .unwrap(),
        )
    };
    let h = s.hidden;
    add("token_embd.weight".into(), &[h, s.vocab], true);
    add("output_norm.weight".into(), &[h], false);
    if !s.tied {
        add("output.weight".into(), &[h, s.vocab], true);
    }
    if a == "deepseek2" {
        for (k, v) in [
            ("leading_dense_block_count", 3.min(s.layers - 1)),
            ("attention.q_lora_rank", 1536),
            ("attention.kv_lora_rank", 512),
            ("attention.key_length", 576),
            ("attention.value_length", 512),
            ("attention.key_length_mla", 192),
            ("attention.value_length_mla", 128),
            ("expert_feed_forward_length", 2048),
            ("expert_count", 256),
            ("expert_used_count", 8),
            ("expert_shared_count", 1),
            ("expert_gating_func", 2),
            ("rope.dimension_count", 64),
            ("expert_group_count", 8),
            ("expert_group_used_count", 4),
        ] {
            m.set(&format!("{a}.{k}"), v as u32);
        }
        m.set("deepseek2.attention.head_count_kv", 1u32);
        m.set("deepseek2.expert_weights_scale", 2.5f32);
        m.set("deepseek2.expert_weights_norm", true);
    } else {
        m.set(&format!("{a}.attention.key_length"), s.head as u32);
        m.set(&format!("{a}.attention.value_length"), s.head as u32);
    }
    for l in 0..s.layers {
        let n = |x: &str| format!("blk.{l}.{x}.weight");
        add(n("attn_norm"), &[h], false);
        add(n("ffn_norm"), &[h], false);
        if a == "deepseek2" {
            add(n("attn_q_a"), &[h, 1536], true);
            add(n("attn_q_a_norm"), &[1536], false);
            add(n("attn_q_b"), &[1536, s.heads * 192], true);
            add(n("attn_kv_a_mqa"), &[h, 576], true);
            add(n("attn_kv_a_norm"), &[512], false);
            add(n("attn_k_b"), &[128, 512, s.heads], true);
            add(n("attn_v_b"), &[512, 128, s.heads], true);
            add(n("attn_output"), &[s.heads * 128, h], true);
            if l < 3.min(s.layers - 1) {
                for x in ["ffn_gate", "ffn_up"] {
                    add(n(x), &[h, s.ff], true);
                }
                add(n("ffn_down"), &[s.ff, h], true);
            } else {
                add(n("ffn_gate_inp"), &[h, 256], false);
                add(format!("blk.{l}.exp_probs_b.bias"), &[256], false);
                for x in ["ffn_gate", "ffn_up"] {
                    add(n(&format!("{x}_exps")), &[h, 2048, 256], true);
                    add(n(&format!("{x}_shexp")), &[h, 2048], true);
                }
                add(n("ffn_down_exps"), &[2048, h, 256], true);
                add(n("ffn_down_shexp"), &[2048, h], true);
            }
            continue;
        }
        add(n("attn_q"), &[h, s.heads * s.head], true);
        add(n("attn_k"), &[h, s.kv * s.head], true);
        add(n("attn_v"), &[h, s.kv * s.head], true);
        add(n("attn_output"), &[s.heads * s.head, h], true);
        if a == "qwen3" {
            add(n("attn_q_norm"), &[s.head], false);
            add(n("attn_k_norm"), &[s.head], false);
        }
        if a == "qwen2" {
            for (x, d) in [("attn_q", s.heads), ("attn_k", s.kv), ("attn_v", s.kv)] {
                add(format!("blk.{l}.{x}.bias"), &[d * s.head], false);
            }
        }
        for x in ["ffn_gate", "ffn_up"] {
            add(n(x), &[h, s.ff], true);
        }
        add(n("ffn_down"), &[s.ff, h], true);
    }
    (m, t)
}

fn ps(o: &mut Vec<u8>, s: &str) {
    o.extend((s.len() as u64).to_le_bytes());
    o.extend(s.as_bytes());
}
fn write_sparse(path: &Path, m: &Metadata, t: &[TensorInfo]) {
    let mut o = b"GGUF".to_vec();
    o.extend(3u32.to_le_bytes());
    o.extend((t.len() as u64).to_le_bytes());
    o.extend((m.len() as u64).to_le_bytes());
    for (k, v) in m.iter() {
        ps(&mut o, k);
        match v {
            Value::U32(n) => {
                o.extend(4u32.to_le_bytes());
                o.extend(n.to_le_bytes());
            }
            Value::F32(n) => {
                o.extend(6u32.to_le_bytes());
                o.extend(n.to_le_bytes());
            }
            Value::Bool(n) => {
                o.extend(7u32.to_le_bytes());
                o.push(*n as u8);
            }
            Value::String(n) => {
                o.extend(8u32.to_le_bytes());
                ps(&mut o, n);
            }
            _ => unreachable!(),
        }
    }
    let mut end = 0u64;
    for x in t {
        ps(&mut o, &x.name);
        o.extend((x.dims.len() as u32).to_le_bytes());
        for d in &x.dims {
            o.extend(d.to_le_bytes());
        }
        o.extend(x.tensor_type.number().to_le_bytes());
        o.extend(end.to_le_bytes());
        end = (end + x.bytes()).next_multiple_of(32);
    }
    let start = (o.len() as u64).next_multiple_of(32);
    std::fs::write(path, o).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(start + end)
        .unwrap();
}

/// KV cache and compute plus output buffers in MiB, as llama.cpp reports them.
fn allocated(path: &Path, context: &ContextShape) -> (f64, f64) {
    LOG.lock().unwrap().clear();
    let (n_ctx, n_slots) = (context.n_ctx as u32, context.n_slots as u32);
    let kv_type = match context.kv_type {
        KvCacheType::F16 => sys::GGML_TYPE_F16,
        KvCacheType::Q8_0 => sys::GGML_TYPE_Q8_0,
    };
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: parameters are llama.cpp's own; model and context are freed once, in order.
    unsafe {
        sys::llama_log_set(Some(keep), std::ptr::null_mut());
        let mut params = sys::llama_model_default_params();
        params.no_alloc = true;
        params.use_extra_bufts = false;
        params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
        let model = sys::llama_model_load_from_file(name.as_ptr(), params);
        assert!(!model.is_null(), "{}", LOG.lock().unwrap());
        let mut params = sys::llama_context_default_params();
        params.n_ctx = n_ctx * n_slots;
        params.n_seq_max = n_slots;
        params.n_batch = context.n_ubatch as u32;
        params.n_ubatch = context.n_ubatch as u32;
        params.n_outputs_max = context.n_outputs as u32;
        params.kv_unified = false;
        params.type_k = kv_type;
        params.type_v = kv_type;
        let created = sys::llama_init_from_model(model, params);
        assert!(!created.is_null(), "{}", LOG.lock().unwrap());
        sys::llama_free(created);
        sys::llama_model_free(model);
    }
    let log = LOG.lock().unwrap();
    let after = |text: &str| -> f64 {
        let at = log
            .rfind(text)
            .unwrap_or_else(|| panic!("no {text} in {log}"))
            + text.len();
        let number = log[at..].split_whitespace().next().unwrap();
        number.parse().unwrap()
    };
    // The cache's own line: its buffer is a dummy here.
    let line = log.lines().find(|l| l.contains(" cells,")).unwrap();
    let kv = line.split("size =").nth(1).unwrap();
    let kv = kv.split_whitespace().next().unwrap().parse().unwrap();
    (
        kv,
        after("compute buffer size =") + after("output buffer size ="),
    )
}

#[test]
fn the_arithmetic_agrees_with_what_llama_cpp_allocates() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in [
        (
            "smollm2",
            Shape {
                arch: "llama",
                layers: 30,
                hidden: 576,
                heads: 9,
                kv: 3,
                head: 64,
                ff: 1536,
                vocab: 49152,
                tied: true,
            },
        ),
        (
            "qwen2-0.5b",
            Shape {
                arch: "qwen2",
                layers: 24,
                hidden: 896,
                heads: 14,
                kv: 2,
                head: 64,
                ff: 4864,
                vocab: 151936,
                tied: true,
            },
        ),
        (
            "tiny",
            Shape {
                arch: "qwen2",
                layers: 2,
                hidden: 64,
                heads: 2,
                kv: 1,
                head: 32,
                ff: 128,
                vocab: 152064,
                tied: true,
            },
        ),
        (
            "qwen2-7b",
            Shape {
                arch: "qwen2",
                layers: 28,
                hidden: 3584,
                heads: 28,
                kv: 4,
                head: 128,
                ff: 18944,
                vocab: 152064,
                tied: false,
            },
        ),
        (
            "llama-8b",
            Shape {
                arch: "llama",
                layers: 32,
                hidden: 4096,
                heads: 32,
                kv: 8,
                head: 128,
                ff: 14336,
                vocab: 128256,
                tied: false,
            },
        ),
        (
            "qwen3-8b",
            Shape {
                arch: "qwen3",
                layers: 36,
                hidden: 4096,
                heads: 32,
                kv: 8,
                head: 128,
                ff: 12288,
                vocab: 151936,
                tied: false,
            },
        ),
        (
            "r1",
            Shape {
                arch: "deepseek2",
                layers: 61,
                hidden: 7168,
                heads: 128,
                kv: 1,
                head: 0,
                ff: 18432,
                vocab: 129280,
                tied: false,
            },
        ),
    ] {
        let path = folder.path().join(format!("{name}.gguf"));
        let (metadata, tensors) = header(&shape);
        write_sparse(&path, &metadata, &tensors);
        for (n_ctx, n_slots, n_ubatch, n_outputs) in [
            (4096, 1, 512, 512),
            (4096, 4, 512, 512),
            (16384, 1, 512, 512),
            (65536, 1, 512, 1),
            (4096, 1, 128, 128),
            (4096, 4, 512, 4),
            (300, 3, 128, 3),
        ] {
            for kv_type in [KvCacheType::F16, KvCacheType::Q8_0] {
                let context = ContextShape {
                    n_ctx,
                    n_slots,
                    n_ubatch,
                    n_outputs,
                    kv_type,
                };
                let need = memory_need(&metadata, &tensors, context).unwrap();
                let (kv, compute) = allocated(&path, &context);
                let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
                assert!(
                    (mib(need.kv_cache) - kv).abs() <= 0.006,
                    "{name} {context:?}: KV {kv} {need:?}"
                );
                let ours = mib(need.compute);
                assert!(
                    ours >= compute - 0.1 && ours <= compute * 1.12 + 2.0,
                    "{name} {context:?}: compute {compute}, ours {ours}"
                );
            }
        }
    }
}
