//! A folder's model, converted and computed by our engine, has the logits that transformers has of the
//! folder itself: every rotation, permutation, norm, scale and expert is where it should be. What
//! transformers computed is kept in `fixtures/hugging_face/*/logits.json`, recorded by
//! `make_hugging_face_fixtures.py`.

mod support;

use cloister_engine::evaluate::{Evaluator, Token};
use serde_json::json;
use support::convert;
use support::hugging_face::Folder;

/// ln of the probabilities of `logits`.
fn ln_softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
    logits.iter().map(|l| l - max - sum.ln()).collect()
}

fn kl_divergence(p: &[f64], q: &[f64]) -> f64 {
    let (p, q) = (ln_softmax(p), ln_softmax(q));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn top(logits: &[f64]) -> usize {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("logits").0
}

/// The recorded logits of `fixture` and those of its conversion to BF16, a row for each token.
fn both(fixture: &str, change: impl FnOnce(&Folder)) -> Vec<(Vec<f64>, Vec<f64>)> {
    let folder = Folder::of(fixture);
    let recorded = folder.fixture_json("logits.json");
    change(&folder);
    convert(folder.path(), &folder.out(), "BF16").succeeded();
    let tokens: Vec<Token> = serde_json::from_value(recorded["tokens"].clone()).unwrap();
    let rows: Vec<Vec<f64>> = serde_json::from_value(recorded["logits_by_1024"].clone()).unwrap();
    assert_eq!(tokens.len(), rows.len());

    let mut model = Evaluator::load(&folder.out(), 64, None).unwrap();
    model.begin_window();
    let n_vocab = model.n_vocab();
    let ours = model.compute(&tokens, 0).unwrap();
    let ours = ours
        .chunks(n_vocab)
        .map(|row| row.iter().map(|&l| l.into()));
    rows.into_iter()
        .map(|row| row.into_iter().map(|l| l / 1024.0).collect())
        .zip(ours.map(|row| row.collect()))
        .collect()
}

fn mean_divergence(rows: &[(Vec<f64>, Vec<f64>)]) -> f64 {
    let sum: f64 = rows.iter().map(|(p, q)| kl_divergence(p, q)).sum();
    sum / rows.len() as f64
}

fn assert_same_logits(fixture: &str) {
    let rows = both(fixture, |_| {});
    for (at, (theirs, ours)) in rows.iter().enumerate() {
        // Where the two best are nearly tied, 8 bits of mantissa decide.
        let (theirs_best, ours_best) = (theirs[top(theirs)], theirs[top(ours)]);
        assert!(
            theirs_best - ours_best < 0.02,
            "the best token after token {at} is {}, not {}",
            top(theirs),
            top(ours)
        );
    }
    let mean = mean_divergence(&rows);
    assert!(mean < 1e-3, "mean KL divergence {mean}");
}

#[test]
fn of_qwen2_with_biases() {
    assert_same_logits("tiny-r1-qwen");
}

#[test]
fn of_llama_with_its_rope_factors() {
    assert_same_logits("tiny-llama3");
}

#[test]
fn of_qwen3_with_norms_of_queries_and_keys_and_yarn() {
    assert_same_logits("tiny-r1-qwen3");
}

#[test]
fn of_deepseek_v3_with_latent_attention_and_experts() {
    assert_same_logits("tiny-deepseek");
}

#[test]
fn of_deepseek_v3_in_fp8() {
    assert_same_logits("tiny-deepseek-fp8");
}

#[test]
fn and_no_others_where_a_setting_is_not_what_it_was() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 8] = [
        ("tiny-r1-qwen", |c| c["rope_theta"] = json!(20000)),
        ("tiny-llama3", |c| c["rope_theta"] = json!(10000.0)),
        ("tiny-r1-qwen3", |c| {
            c["rope_scaling"]["factor"] = json!(8.0)
        }),
        ("tiny-deepseek", |c| c["routed_scaling_factor"] = json!(2.0)),
        ("tiny-deepseek", |c| c["scoring_func"] = json!("softmax")),
        ("tiny-deepseek", |c| c["norm_topk_prob"] = json!(false)),
        ("tiny-deepseek", |c| c["topk_group"] = json!(1)),
        ("tiny-deepseek", |c| {
            c["rope_scaling"]["mscale_all_dim"] = json!(0.5)
        }),
    ];
    for (i, (fixture, change)) in changes.into_iter().enumerate() {
        let rows = both(fixture, |folder| folder.change("config.json", change));
        let mean = mean_divergence(&rows);
        assert!(mean > 1e-3, "change {i}, of {fixture}: {mean}");
    }
}

/// llama.cpp takes a file without a gating function for one that gates by softmax, as DeepSeek-V2 does;
/// DeepSeek-V3 knows sigmoid alone, and what transformers 5 writes of it does not say so.
#[test]
fn of_deepseek_v3_that_does_not_tell_its_gating_function() {
    let rows = both("tiny-deepseek", |folder| {
        folder.change("config.json", |config| {
            config.as_object_mut().unwrap().remove("scoring_func");
        })
    });
    assert!(mean_divergence(&rows) < 1e-3);
}
