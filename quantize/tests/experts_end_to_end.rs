//! A checkpoint with experts goes the whole way: folder, importance matrix, low-bit file.
//!
//! The expected sums are those of `llama-imatrix` of llama-cpp-python 0.3.36 for the same model:
//!
//!     llama-imatrix -m F32.gguf -f garden.txt -c 64 --chunks 8 --no-repack -o imatrix.gguf
//!
//! On the same CPU ours are equal to six digits; the tolerance is for other CPUs, whose kernels add in
//! another order, by which a token may go to another expert.

mod support;

use std::path::{Path, PathBuf};

use cloister_gguf::Gguf;
use support::hugging_face::Folder;
use support::{cloister_quantize, convert, tensor_bytes};

/// Some weights, and for each of their matrices how many tokens met it and what their squares sum to.
const EXPECTED: [(&str, &[f32], &[f32]); 5] = [
    ("blk.0.attn_k_b.weight", &[512.0], &[30205.9]),
    ("blk.0.attn_v_b.weight", &[512.0], &[13306.4]),
    ("blk.1.ffn_down_shexp.weight", &[512.0], &[4610.57]),
    (
        "blk.1.ffn_gate_exps.weight",
        &[27.0, 0.0, 0.0, 271.0, 0.0, 0.0, 214.0, 512.0],
        &[602.135, 0.0, 0.0, 5459.63, 0.0, 0.0, 4582.64, 10644.4],
    ),
    (
        "blk.1.ffn_down_exps.weight",
        &[27.0, 0.0, 0.0, 271.0, 0.0, 0.0, 214.0, 512.0],
        &[140.363, 0.0, 0.0, 2912.64, 0.0, 0.0, 1313.24, 3487.0],
    ),
];

/// Makes the importance matrix of the folder's model beside its output.
fn imatrix(folder: &Folder) -> PathBuf {
    let model = folder.out();
    convert(folder.path(), &model, "F32").succeeded();
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/garden.txt");
    let out = model.with_file_name("imatrix.gguf");
    let [model, text, path] = [&model, &text, &out].map(|p| p.to_str().unwrap());
    let window = ["--ctx", "64", "--chunks", "8"];
    let run = cloister_quantize(
        ["imatrix", model, text, "-o", path]
            .into_iter()
            .chain(window),
    );
    run.succeeded();
    assert!(
        run.stderr.contains("matrices met no token"),
        "{}",
        run.stderr
    );
    out
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    let tensor = gguf
        .tensor(name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    let bytes = tensor_bytes(gguf, tensor);
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect()
}

#[test]
fn each_expert_has_the_sums_of_its_own_tokens_as_llama_imatrix_has_them() {
    let gguf = Gguf::open(&imatrix(&Folder::of("tiny-deepseek"))).unwrap();
    for (name, counts, sums) in EXPECTED {
        let near = |ours: f32, theirs: f32| (ours - theirs).abs() <= 0.02 * theirs.max(100.0);
        let ours = floats(&gguf, &format!("{name}.counts"));
        assert_eq!(ours.len(), counts.len(), "{name}");
        let same = ours.iter().zip(counts).all(|(a, b)| near(*a, *b));
        assert!(same, "{name}: {ours:?} tokens, not {counts:?}");
        let columns = floats(&gguf, &format!("{name}.in_sum2"));
        let ours: Vec<f32> = columns
            .chunks(columns.len() / counts.len())
            .map(|c| c.iter().sum())
            .collect();
        let same = ours.iter().zip(sums).all(|(a, b)| near(*a, *b));
        assert!(same, "{name}: sums {ours:?}, not {sums:?}");
    }
}

#[test]
fn an_expert_is_quantized_by_its_own_sums() {
    let folder = Folder::of("tiny-deepseek");
    let imatrix = imatrix(&folder);
    let bytes = |rest: &[&str]| {
        let (source, out) = (folder.path().to_str().unwrap(), folder.out());
        let args = ["convert", source, out.to_str().unwrap(), "--type", "Q4_0"];
        cloister_quantize(args.iter().chain(rest)).succeeded();
        let gguf = Gguf::open(&out).unwrap();
        let experts = gguf.tensor("blk.1.ffn_up_exps.weight").unwrap();
        let bytes = tensor_bytes(&gguf, experts);
        bytes
            .chunks(bytes.len() / 8)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let without = bytes(&[]);
    let with = bytes(&["--imatrix", imatrix.to_str().unwrap()]);
    // Expert 7 met every token. Expert 1 met none, and then each of its columns counts alike.
    assert!(with[7] != without[7]);
    let all_alike = {
        let path = folder.out().with_file_name("alike.gguf");
        support::llama_quantize::Given {
            imatrix: vec![(
                "blk.1.ffn_up_exps.weight".to_owned(),
                vec![1.0; 8 * 64],
                vec![1.0; 8],
            )],
            overrides: Vec::new(),
        }
        .write_imatrix(&path);
        bytes(&["--imatrix", path.to_str().unwrap()])
    };
    assert!(with[1] == all_alike[1]);
    assert!(with[7] != all_alike[7]);
}
