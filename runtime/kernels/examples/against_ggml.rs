//! `against_ggml [THREADS [TYPE…]]`: products of several shapes, timed with the kernels and ggml's own way in turn, weights
//! from memory. Prints how many times faster the kernels are, or that a shape is ggml's, as one below 1 should be. With `SIMD=Avx2`
//! or another instruction set that the kernels know, they use this one.

mod timed;

use cloister_kernels::WeightType;
use cloister_kernels::product::takes;
use llama_cpp_sys_2 as sys;
use timed::{Graph, Threads, floats};

/// Weights of a row, and rows: a small model's keys, its projections, and what goes up and down; and a large one's.
const SHAPES: [(usize, usize); 6] = [
    (1024, 128),
    (1024, 1024),
    (1024, 4864),
    (4864, 1024),
    (3584, 512),
    (3584, 3584),
];
const COLUMNS: [usize; 7] = [1, 2, 4, 8, 16, 64, 128];
/// Bytes of weights that are multiplied one after the other: more than caches hold.
const BYTES: usize = 48 << 20;

/// Products of one shape, as many as have [`BYTES`] of weights; of many columns fewer.
fn products(
    threads: &Threads,
    weight_type: WeightType,
    (k, rows): (usize, usize),
    columns: usize,
) -> Graph<'_> {
    let bytes = weight_type.row_bytes(k) * rows;
    let count = (BYTES / bytes / columns.div_ceil(16)).max(2);
    Graph::new(threads, 4 * count + 8, |context, graph| {
        // SAFETY: the context and the graph have room for these tensors.
        let (input, weights) = unsafe {
            let tensor =
                |number, a, b| sys::ggml_new_tensor_2d(context, number, a as i64, b as i64);
            let input = tensor(sys::GGML_TYPE_F32, k, columns);
            let number = weight_type.ggml_type();
            let weights: Vec<_> = (0..count).map(|_| tensor(number, k, rows)).collect();
            for weights in &weights {
                let product = sys::ggml_mul_mat(context, *weights, input);
                sys::ggml_build_forward_expand(graph, product);
            }
            (input, weights)
        };
        // Noise that is no infinite scale.
        let packed = (0..bytes).map(|i| (i * 7919 % 61) as u8).collect();
        [(vec![input], floats(k * columns)), (weights, packed)]
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = Threads::wanted(arguments.first());
    let named = |t: &WeightType| arguments.len() < 2 || arguments[1..].contains(&format!("{t:?}"));
    print!("| type | weights of a row, rows |");
    for columns in COLUMNS {
        print!(" {columns} |");
    }
    print!("\n| --- | --- |{}", " --- |".repeat(COLUMNS.len()));
    for weight_type in WeightType::ALL.iter().copied().filter(named) {
        for shape in SHAPES {
            print!("\n| {weight_type:?} | {}, {} |", shape.0, shape.1);
            for columns in COLUMNS {
                if !takes(weight_type, columns) {
                    print!(" ggml |");
                    continue;
                }
                let [ratio, _] = products(&threads, weight_type, shape, columns).compare();
                print!(" {ratio:.2} |");
            }
        }
    }
    println!();
}
