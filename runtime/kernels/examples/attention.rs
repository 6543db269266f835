//! `attention [THREADS [f16|q8_0 [KEYS…]]]`: attention of several models' shapes, timed with the kernels and ggml's own way in
//! turn, caches from memory. Prints how many times faster the kernels are, and for one token the time that they take. With
//! `SIMD=Avx2` or another instruction set that the kernels know, they use this one.

mod timed;

use llama_cpp_sys_2 as sys;
use timed::{Graph, Threads, floats};

/// Heads, those of the cache, and their width: SmolLM2-135M, Qwen2.5-0.5B, R1-Distill-Qwen-7B, Llama-3.1-8B, and Llama-2-7B,
/// where no two share.
const SHAPES: [[i64; 3]; 5] = [
    [9, 3, 64],
    [14, 2, 64],
    [28, 4, 128],
    [32, 8, 128],
    [32, 32, 128],
];
/// Tokens of a stream, and streams: drafts and prompts, then several clients.
const BATCHES: [[i64; 2]; 11] = [
    [1, 1],
    [2, 1],
    [4, 1],
    [8, 1],
    [16, 1],
    [32, 1],
    [64, 1],
    [256, 1],
    [1, 2],
    [1, 4],
    [1, 8],
];
/// Bytes of caches that are gone through one after the other: more than caches of the CPU hold.
const BYTES: i64 = 64 << 20;

/// Attention of as many layers as have [`BYTES`] of caches, fewer for many tokens; and how many these are.
fn layers(
    threads: &Threads,
    cache_type: sys::ggml_type,
    [heads, kv_heads, width]: [i64; 3],
    [tokens, streams]: [i64; 2],
    keys: i64,
) -> (Graph<'_>, i64) {
    // SAFETY: it looks up the type's size.
    let row = unsafe { sys::ggml_row_size(cache_type, width) } as i64;
    let bytes = 2 * row * kv_heads * keys * streams;
    let count = (BYTES / bytes / tokens).clamp(1, 64);
    let graph = Graph::new(threads, 8 * count as usize + 8, |context, graph| {
        let mut caches = Vec::new();
        // SAFETY: the context and the graph have room for these tensors.
        let [q, mask] = unsafe {
            let tensor =
                |number, a, b, c| sys::ggml_new_tensor_4d(context, number, a, b, c, streams);
            let in_order = |tensor| sys::ggml_permute(context, tensor, 0, 2, 1, 3);
            let q = tensor(sys::GGML_TYPE_F32, width, heads, tokens);
            let mask = tensor(sys::GGML_TYPE_F16, keys, tokens, 1);
            for _ in 0..count {
                let [k, v] = [(); 2].map(|()| tensor(cache_type, width, kv_heads, keys));
                let scale = 1.0 / (width as f32).sqrt();
                let [q, k_rows, v_rows] = [q, k, v].map(in_order);
                let op =
                    sys::ggml_flash_attn_ext(context, q, k_rows, v_rows, mask, scale, 0.0, 0.0);
                sys::ggml_build_forward_expand(graph, op);
                caches.extend([k, v]);
            }
            [q, mask]
        };
        // Each token sees itself and what came before.
        let sees = |i: i64| i % keys <= keys - tokens + i / keys % tokens;
        let masks = (0..keys * tokens * streams)
            .flat_map(|i| if sees(i) { [0, 0] } else { [0, 0xfc] })
            .collect();
        // Noise with small scales, which as numbers of half precision are small, too.
        let noise = (0..row * kv_heads * keys * streams)
            .map(|i| (i * 7919 % 53) as u8)
            .collect();
        let queries = floats((width * heads * tokens * streams) as usize);
        [(vec![q], queries), (vec![mask], masks), (caches, noise)]
    });
    (graph, count)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = Threads::wanted(arguments.first());
    let cache_type = match arguments.get(1).map(String::as_str) {
        Some("q8_0") => sys::GGML_TYPE_Q8_0,
        _ => sys::GGML_TYPE_F16,
    };
    let mut keys: Vec<i64> = arguments
        .iter()
        .skip(2)
        .map(|n| n.parse().expect("numbers of keys"))
        .collect();
    if keys.is_empty() {
        keys = vec![256, 1024, 4096, 16384];
    }
    print!("| heads, of the cache, width | keys |");
    for [tokens, streams] in BATCHES {
        print!(
            " {tokens}{} |",
            if streams == 1 {
                String::new()
            } else {
                format!(" of {streams} streams")
            }
        );
    }
    print!(
        " µs |\n| --- | --- |{} --- |",
        " --- |".repeat(BATCHES.len())
    );
    for shape in SHAPES {
        for &keys in &keys {
            print!("\n| {}, {}, {} | {keys} |", shape[0], shape[1], shape[2]);
            let mut micros = 0.0;
            for batch in BATCHES {
                if batch[0] * keys > 1 << 18 || batch[1] * keys > 1 << 15 {
                    print!(" |");
                    continue;
                }
                let (layers, count) = layers(&threads, cache_type, shape, batch, keys);
                let [ratio, seconds] = layers.compare();
                print!(" {ratio:.2} |");
                if batch == [1, 1] {
                    micros = seconds * 1e6 / count as f64;
                }
            }
            print!(" {micros:.0} |");
        }
    }
    println!();
}
