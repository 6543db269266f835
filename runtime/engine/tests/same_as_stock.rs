//! A model with the kernels against the same model without, as ggml has it: the logits, the greedy tokens, and that the
//! number of threads changes nothing. What ggml itself makes of the weights in its two layouts is the measure.
//! The kernels are on or off for the whole process: one test at a time.
//!
//! Minutes, by name: `cargo test --release -p cloister-engine --test same_as_stock -- --nocapture`. `CLOISTER_MODELS` names
//! other files, with `:` between them.

mod support;

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use cloister_engine::evaluate::{Evaluator, Token};
use support::cached;

/// Tokens of a window, and of an answer.
const WINDOW: usize = 256;
const WINDOWS: usize = 8;
const ANSWER: usize = 24;
/// Tokens before a window and before an answer that are deep in the cache; tokens of that window.
const DEPTH: usize = 2304;
const DEEP_WINDOW: usize = 64;
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
    fn load(path: &Path) -> Self {
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
    answer(model, prompt)
}

/// The same after what is computed, and `prompt`.
fn answer(model: &mut Evaluator, prompt: &[Token]) -> Vec<(Token, f32)> {
    let n_vocab = model.n_vocab();
    let mut answer: Vec<(Token, f32)> = Vec::new();
    let mut next = prompt.to_vec();
    while answer.len() < ANSWER {
        let row = model.compute(&next, 0);
        let row = row.unwrap_or_else(|error| panic!("{error}"));
        let row = &row[row.len() - n_vocab..];
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

/// Where answers part, how far apart the two best logits were.
fn part(a: &[(Token, f32)], b: &[(Token, f32)]) -> Option<f32> {
    let mut both = a.iter().zip(b);
    let (a, b) = both.find(|(a, b)| a.0 != b.0)?;
    Some(a.1.min(b.1))
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
fn deep_in_the_cache_they_are_as_near() {
    for path in files() {
        println!("{}", path.display());
        same_at_depth(&path);
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
    let mut parted: [Vec<f32>; 2] = [Vec::new(), Vec::new()];
    for prompt in prompts() {
        let prompt = models.stored.tokenize(&prompt);
        let stock = greedy(models.of(Way::Stock), &prompt);
        for (way, parted) in [Way::Repacked, Way::Kernels].into_iter().zip(&mut parted) {
            let other = greedy(models.of(way), &prompt);
            parted.extend(part(&stock, &other));
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

/// What comes behind many tokens: the logits of a window, and greedy tokens. There ggml's own bits hang on the number of
/// threads, among which it divides the cache: that is the measure.
fn same_at_depth(path: &Path) {
    let n_ctx = (DEPTH + 2 * DEEP_WINDOW) as u32;
    let behind = |kernels, n_threads| {
        let model = Evaluator::load_to_compare(path, n_ctx, None, n_threads, false);
        let mut model = model.unwrap_or_else(|error| panic!("{error}"));
        let tokens = model.tokenize(TEXT);
        let n_vocab = model.n_vocab();
        cloister_kernels::enable(kernels);
        model.begin_window();
        for part in tokens[..DEPTH].chunks(WINDOW) {
            let computed = model.compute(part, DEPTH);
            computed.unwrap_or_else(|error| panic!("{error}"));
        }
        // One by one, and as a draft is checked.
        let mut logits = Vec::new();
        let mut rest = &tokens[DEPTH..DEPTH + DEEP_WINDOW];
        for n in [1; DEEP_WINDOW / 8].into_iter().chain([7; DEEP_WINDOW / 8]) {
            let (batch, after) = rest.split_at(n);
            let row = model.compute(batch, 0);
            logits.extend_from_slice(row.unwrap_or_else(|error| panic!("{error}")));
            rest = after;
        }
        let row = (0..).zip(&logits[logits.len() - n_vocab..]);
        let next: Option<(Token, _)> = row.max_by(|a, b| a.1.total_cmp(b.1));
        let next = next.expect("there are tokens").0;
        (logits, answer(&mut model, &[next]))
    };
    let [stock, threads, ours] = [(false, 2), (false, 1), (true, 2)].map(|(k, n)| behind(k, n));
    let divergence = |other: &[f32]| mean_divergence(&stock.0, other, other.len() / DEEP_WINDOW);
    let [threads_apart, apart] = [divergence(&threads.0), divergence(&ours.0)];
    let moved = stock.0.iter().zip(&threads.0).map(|(a, b)| (a - b).abs());
    let moved = moved.fold(NEAR_TIE, f32::max);
    let part = part(&stock.1, &ours.1);
    println!(
        "behind {DEPTH} tokens, mean KL divergence: of the kernels {apart:.3e}, of ggml with another number of threads \
         {threads_apart:.3e}, which moves logits by up to {moved:.3}; greedy tokens part where the best were apart by {part:.3?}",
    );
    assert!(apart <= 2.0 * threads_apart);
    assert!(part.is_none_or(|apart| apart < moved));
}

fn same_bits_of_all_threads(path: &Path) {
    cloister_kernels::enable(true);
    let of_threads = |n_threads| {
        let sizes = [1, 2, 5, 8, 16, 96, 1, 127, 256, 512, 1, 3];
        let n_ctx = sizes.iter().sum::<usize>();
        let model = Evaluator::load_to_compare(path, n_ctx as u32, None, n_threads, false);
        let mut model = model.unwrap_or_else(|error| panic!("{error}"));
        let tokens = &model.tokenize(TEXT)[..n_ctx];
        // In batches of several sizes, one token alone among them, also behind many.
        model.begin_window();
        let mut bits = DefaultHasher::new();
        let mut rest = tokens;
        for n in sizes {
            let (batch, after) = rest.split_at(n);
            let row = model.compute(batch, 0);
            let row = row.unwrap_or_else(|error| panic!("{error}"));
            row.iter().for_each(|logit| bits.write_u32(logit.to_bits()));
            rest = after;
        }
        bits.finish()
    };
    let one = of_threads(1);
    for n_threads in [2, 3, 4] {
        assert!(of_threads(n_threads) == one, "{n_threads} threads");
    }
    println!("1, 2, 3 and 4 threads: the same bits");
}
