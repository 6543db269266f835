//! A model with the kernels against the same model without, as ggml has it: the logits, the greedy tokens, and that the
//! number of threads changes nothing. What ggml itself makes of the weights in its two layouts is the measure.
//! The kernels are on or off for the whole process: one test at a time.
//!
//! Minutes, by name: `cargo test --release -p cloister-engine --test same_as_stock -- --nocapture`. `CLOISTER_MODELS` names
//! other files, with `:` between them.

mod support;

use std::path::PathBuf;

use cloister_engine::evaluate::{Evaluator, Token};
use support::cached;

/// Tokens of a window, and of an answer.
const WINDOW: usize = 256;
const WINDOWS: usize = 8;
const ANSWER: usize = 24;
/// Logits that are nearer may change places.
const NEAR_TIE: f32 = 0.01;

/// English, and some code.
const TEXT: &str = concat!(
    include_str!("../../../README.md"),
    include_str!("../../../ARCHITECTURE.md"),
    include_str!("../../../docs/privacy.md"),
    include_str!("../src/queue.rs"),
);

const SUBJECTS: [&str; 20] = [
    "rain",
    "a sonnet",
    "the number seven",
    "bread",
    "Rust",
    "Paris",
    "a bicycle",
    "the moon",
    "chess",
    "tea",
    "an octopus",
    "the heart",
    "a loom",
    "glass",
    "the Nile",
    "winter",
    "a bridge",
    "salt",
    "a violin",
    "TCP",
];

/// What is asked about each of them: 200 prompts.
fn prompts() -> impl Iterator<Item = String> {
    SUBJECTS.iter().flat_map(|subject| {
        [
            format!("What is {subject}?"),
            format!("The history of {subject} begins"),
            format!("Once upon a time there was {subject}, and"),
            format!("Three facts about {subject}:\n1."),
            format!("Q: Why do people like {subject}?\nA:"),
            format!("# {subject}\n\n"),
            format!("def about():\n    \"\"\"Tells of {subject}.\"\"\"\n"),
            format!("{{\"subject\": \"{subject}\", \"words\": ["),
            format!("\"I have never thought about {subject},\" she said. \""),
            format!("En français, {subject} se dit"),
        ]
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stock,
    Repacked,
    Kernels,
}

/// A file, ready to be computed each way.
struct Models {
    stored: Evaluator,
    repacked: Evaluator,
}

impl Models {
    fn load(path: &std::path::Path) -> Self {
        let load = |repack| {
            Evaluator::load_to_compare(path, WINDOW as u32, None, 2, repack)
                .unwrap_or_else(|error| panic!("{error}"))
        };
        Self {
            stored: load(false),
            repacked: load(true),
        }
    }

    fn of(&mut self, way: Way) -> &mut Evaluator {
        cloister_kernels::enable(way == Way::Kernels);
        match way {
            Way::Repacked => &mut self.repacked,
            Way::Stock | Way::Kernels => &mut self.stored,
        }
    }
}

/// The logits after each of `tokens`.
fn logits(model: &mut Evaluator, tokens: &[Token]) -> Vec<f32> {
    model.begin_window();
    let computed = model.compute(tokens, 0);
    computed.unwrap_or_else(|error| panic!("{error}")).to_vec()
}

/// The most likely tokens after `prompt`, one by one, and how far the next likely one was behind each.
fn greedy(model: &mut Evaluator, prompt: &[Token]) -> Vec<(Token, f32)> {
    model.begin_window();
    let mut answer: Vec<(Token, f32)> = Vec::new();
    let mut next = prompt.to_vec();
    while answer.len() < ANSWER {
        let scored_from = if answer.is_empty() {
            prompt.len() - 1
        } else {
            0
        };
        let row = model.compute(&next, scored_from);
        let row = row.unwrap_or_else(|error| panic!("{error}"));
        let mut best = [(0, f32::NEG_INFINITY); 2];
        for (token, &logit) in (0..).zip(row) {
            if logit > best[0].1 {
                best = [(token, logit), best[0]];
            } else if logit > best[1].1 {
                best[1] = (token, logit);
            }
        }
        answer.push((best[0].0, best[0].1 - best[1].1));
        next = vec![best[0].0];
    }
    answer
}

/// Mean of the KL divergence of rows of `n_vocab` logits.
fn mean_divergence(p: &[f32], q: &[f32], n_vocab: usize) -> f64 {
    let ln_softmax = |logits: &[f32]| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let ln = |logit: &f32| f64::from(logit - max);
        let sum: f64 = logits.iter().map(|l| ln(l).exp()).sum();
        logits.iter().map(|l| ln(l) - sum.ln()).collect::<Vec<_>>()
    };
    let rows = p.chunks_exact(n_vocab).zip(q.chunks_exact(n_vocab));
    let count = rows.len() as f64;
    let of_row = |(p, q)| -> f64 {
        let (p, q) = (ln_softmax(p), ln_softmax(q));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    rows.map(of_row).sum::<f64>() / count
}

fn files() -> Vec<PathBuf> {
    match std::env::var_os("CLOISTER_MODELS") {
        Some(named) => std::env::split_paths(&named).collect(),
        None => vec![
            cached("smollm2-135m-instruct-q4_1.gguf"),
            cached("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
        ],
    }
}

#[test]
fn logits_are_as_near_to_ggmls_as_its_two_layouts_are_to_each_other() {
    for path in files() {
        println!("{}", path.display());
        same_logits(&mut Models::load(&path));
    }
}

#[test]
fn answers_part_where_two_tokens_are_as_good() {
    for path in files() {
        println!("{}", path.display());
        same_answers(&mut Models::load(&path));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for path in files() {
        println!("{}", path.display());
        same_bits_of_all_threads(&path);
    }
}

fn same_logits(models: &mut Models) {
    let tokens = models.stored.tokenize(TEXT);
    let n_vocab = models.stored.n_vocab();
    let [mut layouts, mut ours] = [0.0; 2];
    for window in tokens.chunks_exact(WINDOW).take(WINDOWS) {
        let stock = logits(models.of(Way::Stock), window);
        let mut divergence = |way| {
            mean_divergence(&stock, &logits(models.of(way), window), n_vocab) / WINDOWS as f64
        };
        layouts += divergence(Way::Repacked);
        ours += divergence(Way::Kernels);
    }
    println!("mean KL divergence: of the kernels {ours:.3e}, of ggml's two layouts {layouts:.3e}");
    // Of some types ggml has one layout only.
    assert!(ours <= if layouts > 0.0 { 2.0 * layouts } else { 1e-2 });
}

fn same_answers(models: &mut Models) {
    // Where answers part, as far apart as the two best logits were.
    let mut parted: [Vec<f32>; 2] = [Vec::new(), Vec::new()];
    for prompt in prompts() {
        let prompt = models.stored.tokenize(&prompt);
        let stock = greedy(models.of(Way::Stock), &prompt);
        for (way, parted) in [Way::Repacked, Way::Kernels].into_iter().zip(&mut parted) {
            let other = greedy(models.of(way), &prompt);
            let mut both = stock.iter().zip(&other);
            if let Some((stock, other)) = both.find(|(a, b)| a.0 != b.0) {
                parted.push(stock.1.min(other.1));
            }
        }
    }
    for (what, parted) in ["ggml's two layouts", "the kernels"]
        .iter()
        .zip(&mut parted)
    {
        parted.sort_by(f32::total_cmp);
        let far = parted.iter().filter(|apart| **apart >= NEAR_TIE).count();
        println!(
            "{what}: {} of 200 answers part, {far} of them where the best logits were {NEAR_TIE} or more apart: {parted:.3?}",
            parted.len(),
        );
    }
    let [layouts, ours] = parted.map(|parted| parted.last().copied().unwrap_or(0.0));
    // ggml's own ways part where logits were farther apart, too.
    assert!(ours < layouts.max(NEAR_TIE) * 2.0);
}

fn same_bits_of_all_threads(path: &std::path::Path) {
    cloister_kernels::enable(true);
    let of_threads = |n_threads| {
        let model = Evaluator::load_to_compare(path, WINDOW as u32, None, n_threads, false);
        let mut model = model.unwrap_or_else(|error| panic!("{error}"));
        let tokens = &model.tokenize(TEXT)[..WINDOW];
        // In batches of several sizes, one token alone among them.
        model.begin_window();
        let mut bits = Vec::new();
        let mut rest = tokens;
        for n in [1, 2, 5, 8, 16, 96, 1, 127] {
            let (batch, after) = rest.split_at(n);
            let row = model.compute(batch, 0);
            let row = row.unwrap_or_else(|error| panic!("{error}"));
            bits.extend(row.iter().map(|logit| logit.to_bits()));
            rest = after;
        }
        bits
    };
    let one = of_threads(1);
    for n_threads in [2, 3, 4] {
        assert!(of_threads(n_threads) == one, "{n_threads} threads");
    }
    println!("1, 2, 3 and 4 threads: the same bits");
}
