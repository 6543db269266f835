//! `--dry-run`: what a conversion would write, and what it would take.
//!
//! In: the plan. Out: a table; the time follows from converting a few rows for each type. It must
//! never write a file.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use cloister_gguf::TensorInfo;

use super::chunk::{Buffers, Chunk, chunks};
use super::pipeline;
use super::plan::Plan;
use crate::running::Running;
use crate::tensor_class::{ClassSum, by_class};

/// Chunks that are converted for each pair of types.
const SAMPLES: usize = 4;

/// The table, in lines.
pub fn table(plan: &Plan, running: &Running) -> Result<String> {
    let mut lines = vec![format!(
        "{:20}  {:>7}  {:>12}  {:>12}  {:>6}  types",
        "class", "tensors", "weights", "MB", "bits"
    )];
    let line = |name: &str, sum: &ClassSum| {
        format!(
            "{name:20}  {:>7}  {:>12}  {:>12.1}  {:>6.2}  {}",
            sum.tensors,
            sum.parameters,
            sum.bytes as f64 / 1e6,
            sum.bits_per_weight(),
            sum.type_names()
        )
    };
    for (class, sum) in by_class(&plan.targets) {
        lines.push(line(class.name(), &sum));
    }
    lines.push(line("all", &ClassSum::of(&plan.targets)));
    let metadata = &plan.source.metadata;
    lines.push(format!(
        "\nfile: {:.1} MB, {}",
        plan.file_size() as f64 / 1e6,
        plan.file_type
    ));
    lines.push(format!("to run: {}", running.line(metadata, &plan.targets)));
    let (seconds, memory) = cost(plan)?;
    lines.push(format!(
        "to convert: about {} on {} cores, if the disk keeps up; {} MiB of memory",
        duration(seconds),
        pipeline::cores(),
        memory >> 20
    ));
    Ok(lines.join("\n"))
}

/// Seconds that converting takes, by a sample of each pair of types, and bytes of memory.
fn cost(plan: &Plan) -> Result<(f64, u64)> {
    let mut kinds = BTreeMap::<(u32, u32), Vec<usize>>::new();
    let pairs = plan.source.tensors.iter().zip(&plan.targets);
    for (number, (from, to)) in pairs.enumerate() {
        let kind = (from.info.tensor_type.number(), to.tensor_type.number());
        kinds.entry(kind).or_default().push(number);
    }
    let elements = |number: &usize| plan.targets[*number].elements();
    let mut seconds = 0.0;
    let mut buffers = Buffers::default();
    let mut out = Vec::new();
    for numbers in kinds.values() {
        let largest = *numbers.iter().max_by_key(|n| elements(n)).unwrap_or(&0);
        let tensor = &plan.targets[largest];
        let mut convert = |chunk: Chunk| {
            let imatrix = plan.imatrix.as_ref();
            chunk.convert(&plan.source, tensor, imatrix, &mut buffers, &mut out)
        };
        // The middle of it: rare tokens, at either end of an embedding, may be all zeroes.
        let sample: Vec<Chunk> = chunks(&plan.targets, largest, tensor.rows() / 2)
            .take_while(|chunk| chunk.tensor == largest)
            .take(SAMPLES)
            .collect();
        for chunk in sample.iter().take(1) {
            convert(*chunk)?; // the first prepares tables
        }
        let began = Instant::now();
        for chunk in &sample {
            convert(*chunk)?;
        }
        let rows: u64 = sample.iter().map(|chunk| chunk.rows).sum();
        let of_all = numbers.iter().map(elements).sum::<u64>() as f64;
        let of_sample = (rows * tensor.row_elements()) as f64;
        seconds += began.elapsed().as_secs_f64() * of_all / of_sample;
    }
    Ok((seconds / pipeline::cores() as f64, memory(&plan.targets)))
}

/// Chunks that wait, the writer's own, and each thread's rows in their stored type and as F32.
fn memory(targets: &[TensorInfo]) -> u64 {
    let largest = chunks(targets, 0, 0).map(|c| c.rows * targets[c.tensor].row_elements() * 4);
    let program = 64 << 20;
    let of_thread = 2 * largest.max().unwrap_or(0);
    program + 2 * pipeline::WINDOW_BYTES + pipeline::threads() as u64 * of_thread
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{} s", seconds.ceil()),
        ..5400.0 => format!("{} min", (seconds / 60.0).ceil()),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
