//! A model with the kernels against the same model without, as ggml has it: the logits, the greedy tokens, and that the
//! number of threads changes nothing. What ggml itself makes of the weights in its two layouts is the measure; beside it
//! stands what ggml makes of them when the last bits of its norms' numbers are others.
//! The kernels are on or off for the whole process: one test at a time.
//!
//! Minutes, by name: `cargo test --release -p cloister-engine --test same_as_stock -- --nocapture`. `CLOISTER_MODELS` names
//! other files, with `:` between them.

mod apart;
#[path = "../support/mod.rs"]
mod support;
mod texts;

use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use apart::{mean_divergence, part};
use cloister_engine::evaluate::{Evaluator, Token};
use cloister_gguf::{Gguf, TensorType};
use support::cached;
use tempfile::NamedTempFile;
use texts::{TEXT, prompts};

/// Tokens of a window, and of an answer.
const WINDOW: usize = 256;
const WINDOWS: usize = 8;
const ANSWER: usize = 24;
/// Tokens before a window and before an answer that are deep in the cache; tokens of that window.
const DEPTH: usize = 2304;
const DEEP_WINDOW: usize = 64;
/// Logits that are nearer are as good.
const NEAR_TIE: f32 = 0.01;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stock,
    Repacked,
    Nudged,
    Kernels,
}

/// A file, ready to be computed each way.
struct Models {
    stored: Evaluator,
    repacked: Evaluator,
    nudged: Evaluator,
}

impl Models {
    fn load(path: &Path) -> Self {
        let load = |path, repack| {
            Evaluator::load_to_compare(path, WINDOW as u32, None, 2, repack)
                .unwrap_or_else(|error| panic!("{error}"))
        };
        Self {
            stored: load(path, false),
            repacked: load(path, true),
            // It stays mapped when its name is gone.
            nudged: load(nudged(path).path(), false),
        }
    }

    fn of(&mut self, way: Way) -> &mut Evaluator {
        cloister_kernels::enable(way == Way::Kernels);
        match way {
            Way::Repacked => &mut self.repacked,
            Way::Nudged => &mut self.nudged,
            Way::Stock | Way::Kernels => &mut self.stored,
        }
    }
}

/// The same file, but for the last bits of all norms' numbers: in turn one step down, none, and one up. After the first norm
/// alone, the rounding to 8 bits often leaves nothing of it.
fn nudged(path: &Path) -> NamedTempFile {
    let file = Gguf::open(path).unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = std::fs::read(path).expect("the file is there");
    for norm in file.tensors.iter().filter(|t| t.name.contains("norm")) {
        assert_eq!(norm.tensor_type, TensorType::F32, "{}", norm.name);
        let from = (file.data_start + norm.offset) as usize;
        let numbers = bytes[from..][..norm.bytes() as usize].as_chunks_mut().0;
        for (number, step) in numbers.iter_mut().zip([-1, 0, 1].into_iter().cycle()) {
            if f32::from_le_bytes(*number) != 0.0 {
                let bits = u32::from_le_bytes(*number).wrapping_add_signed(step);
                *number = bits.to_le_bytes();
            }
        }
    }
    let mut copy = NamedTempFile::new().expect("there is room for a copy");
    copy.write_all(&bytes).expect("there is room for a copy");
    copy
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
fn answers_part_as_ggmls_own_do() {
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
    let [mut layouts, mut nudged, mut ours] = [0.0; 3];
    for window in tokens.chunks_exact(WINDOW).take(WINDOWS) {
        let stock = logits(models.of(Way::Stock), window);
        let mut divergence = |way| {
            mean_divergence(&stock, &logits(models.of(way), window), n_vocab) / WINDOWS as f64
        };
        layouts += divergence(Way::Repacked);
        nudged += divergence(Way::Nudged);
        ours += divergence(Way::Kernels);
    }
    println!(
        "mean KL divergence: of the kernels {ours:.3e}, of ggml's two layouts {layouts:.3e}, of ggml with other last bits \
         {nudged:.3e}"
    );
    // Of some types ggml has one layout only.
    assert!(ours <= 2.0 * if layouts > 0.0 { layouts } else { nudged });
}

fn same_answers(models: &mut Models) {
    let ways = [Way::Repacked, Way::Nudged, Way::Kernels];
    let mut parted = ways.map(|_| Vec::new());
    for prompt in prompts() {
        let prompt = models.stored.tokenize(&prompt);
        let stock = greedy(models.of(Way::Stock), &prompt);
        for (way, parted) in ways.into_iter().zip(&mut parted) {
            let other = greedy(models.of(way), &prompt);
            parted.extend(part(&stock, &other));
        }
    }
    for (way, parted) in ways.iter().zip(&mut parted) {
        parted.sort_by(f32::total_cmp);
        let far = parted.iter().filter(|apart| **apart >= NEAR_TIE).count();
        println!(
            "{way:?}: {} of 200 answers part, {far} of them where the best logits were {NEAR_TIE} or more apart: {parted:.3?}",
            parted.len(),
        );
    }
    // Of ggml's own ways, too, answers part where logits are farther apart than in a near tie: as many, and as far.
    let [layouts, nudged, ours] = &parted;
    assert!(2 * ours.len() <= 3 * layouts.len().max(nudged.len()));
    let apart = |parted: &[f32]| parted.iter().sum::<f32>() / parted.len().max(1) as f32;
    assert!(apart(ours) <= 1.5 * apart(layouts).max(apart(nudged)));
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
