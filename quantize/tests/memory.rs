//! Converting takes memory that does not grow with the model.

mod support;

use std::fs::File;
use std::process::Command;

use cloister_gguf::{Array, Gguf, Metadata, StringArray, TensorInfo, TensorType, Writer};
use support::published::Published;
use support::{binary, fetched, peak_memory, peak_memory_and_status};

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

/// R1 in its real size and an importance matrix of its real size, a gigabyte: everything is checked, and a sample of
/// each pair of types converted.
#[test]
fn planning_r1_with_its_importance_matrix_stays_within_two_gibibytes() {
    let r1 = Published::of("DeepSeek-R1");
    let folder = tempfile::tempdir().unwrap();
    let imatrix = folder.path().join("imatrix.gguf");
    let size = write_imatrix_of_r1(&imatrix);
    assert!(size > 900_000_000, "{size} bytes");
    for file_type in ["IQ2_XXS", "Q3_K_M"] {
        let mut command = Command::new(binary());
        command
            .arg("convert")
            .args([r1.folder(), folder.path().join("out.gguf")])
            .args(["--type", file_type, "--dry-run", "--imatrix"])
            .arg(&imatrix);
        let shown = folder.path().join("table");
        command.stdout(File::create(&shown).unwrap());
        // It ends with an error where the disk has no room for the file, after it has said everything.
        let (peak, _) = peak_memory_and_status(&mut command);
        let shown = std::fs::read_to_string(shown).unwrap();
        assert!(shown.contains("\nto convert: "), "{shown}");
        println!("{file_type}: peak {} MiB", peak >> 20);
        assert!(peak <= 2 << 30, "{} MiB", peak >> 20);
    }
}

/// Sums and counts, all of them zero, for what R1 multiplies with. Its size in bytes.
fn write_imatrix_of_r1(path: &std::path::Path) -> u64 {
    let mut tensors = Vec::new();
    let mut entry = |name: String, columns: u64, matrices: u64| {
        for (part, columns) in [("in_sum2", columns), ("counts", 1)] {
            let name = format!("{name}.weight.{part}");
            tensors.push(TensorInfo::new(name, vec![columns, matrices], TensorType::F32).unwrap());
        }
    };
    for layer in 0..61 {
        let mut entry = |name: &str, columns, matrices| {
            entry(format!("blk.{layer}.{name}"), columns, matrices);
        };
        for (name, columns) in [
            ("attn_q_a", 7168),
            ("attn_q_b", 1536),
            ("attn_kv_a_mqa", 7168),
            ("attn_output", 16_384),
        ] {
            entry(name, columns, 1);
        }
        entry("attn_k_b", 128, 128);
        entry("attn_v_b", 512, 128);
        if layer < 3 {
            entry("ffn_gate", 7168, 1);
            entry("ffn_up", 7168, 1);
            entry("ffn_down", 18_432, 1);
            continue;
        }
        for (experts, matrices) in [("exps", 256), ("shexp", 1)] {
            entry(&format!("ffn_gate_{experts}"), 7168, matrices);
            entry(&format!("ffn_up_{experts}"), 7168, matrices);
            entry(&format!("ffn_down_{experts}"), 2048, matrices);
        }
    }
    entry("output".into(), 7168, 1);

    let mut metadata = Metadata::default();
    let mut dataset = StringArray::default();
    dataset.push(b"a.txt");
    metadata.set("general.type", "imatrix");
    metadata.set("imatrix.datasets", Array::String(dataset));
    metadata.set("imatrix.chunk_count", 100_u32);
    metadata.set("imatrix.chunk_size", 512_u32);
    let sizes: Vec<u64> = tensors.iter().map(TensorInfo::bytes).collect();
    let mut writer = Writer::create(path, &metadata, tensors).unwrap();
    for size in &sizes {
        writer.write(&vec![0; *size as usize]).unwrap();
    }
    writer.finish().unwrap();
    sizes.iter().sum()
}
