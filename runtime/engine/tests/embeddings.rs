//! Vectors of texts: of a BERT as transformers makes them, and of a decoder as its last token, or the mean of its
//! tokens, has them in llama.cpp without pooling.

#[allow(dead_code, reason = "its main is a program's")]
#[path = "../../../quantize/gguf/examples/tiny_bert.rs"]
mod tiny_bert;

mod support;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cloister_engine::{
    Client, EmbedError, Embedder, GenerateError, Options, Pooling, Trial, rehearse,
};
use cloister_gguf::{Gguf, Writer};
use llama_cpp_sys_2 as sys;
use serde_json::Value;

const MEAN: u32 = 1;
const CLS: u32 = 2;
const LAST: u32 = 3;

fn tiny_bert(folder: &Path, pooling: u32) -> PathBuf {
    let path = folder.join(format!("tiny-bert-{pooling}.gguf"));
    tiny_bert::write(&path, pooling).unwrap();
    path
}

/// SmolLM2 whose header says that it embeds.
fn pooled_smollm2(folder: &Path, pooling: u32) -> PathBuf {
    let source = Gguf::open(&support::cached("smollm2-135m-instruct-q4_1.gguf")).unwrap();
    let mut metadata = source.metadata.clone();
    metadata.set("llama.pooling_type", pooling);
    let path = folder.join(format!("smollm2-{pooling}.gguf"));
    let mut writer = Writer::create(&path, &metadata, source.tensors.clone()).unwrap();
    for tensor in &source.tensors {
        let mut bytes = vec![0; tensor.bytes() as usize];
        source.read_tensor(tensor, 0, &mut bytes).unwrap();
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn load(path: &Path) -> Embedder {
    Embedder::load(path, &Options::default()).unwrap()
}

async fn vectors(embedder: &Embedder, texts: &[&str]) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|text| embedder.text(text, false).unwrap());
    let client = Client("a test".to_owned());
    let embedding = embedder.embed(texts.collect(), client).unwrap();
    embedding.vectors().await.unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn a_bert_embeds_as_transformers_has_it() {
    let cases: Value = serde_json::from_str(include_str!("golden/embeddings.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (pooling, name) in [(MEAN, "mean"), (CLS, "cls")] {
        let path = tiny_bert(folder.path(), pooling);
        let trial = Trial {
            n_ctx: 48,
            n_slots: 1,
            n_batch: 48,
            n_outputs: None,
            n_threads: 2,
            kv_type: Default::default(),
        };
        rehearse(&path, trial).unwrap();
        let embedder = load(&path);
        assert_eq!((embedder.info().n_embd, embedder.info().n_ctx), (32, 48));
        for case in cases.as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let n_tokens = case["tokens"].as_array().unwrap().len();
            assert_eq!(embedder.text(text, false).unwrap().len(), n_tokens);
            let expected: Vec<f32> = serde_json::from_value(case[name].clone()).unwrap();
            let [made] = &vectors(&embedder, &[text]).await[..] else {
                panic!("one vector for one text");
            };
            for (made, expected) in made.iter().zip(&expected) {
                // ggml's GELU is looked up in a table of 16-bit floats.
                assert!((made - expected).abs() < 5e-3, "{text}: {made} {expected}");
            }
            assert!(cosine(made, &expected) > 0.9999, "{text}");
        }
    }
}

/// What llama.cpp makes of each token, without pooling.
fn of_tokens(path: &Path, text: &str) -> Vec<Vec<f32>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: each buffer is passed with its own length; all is freed once.
    unsafe {
        sys::llama_backend_init();
        let model =
            sys::llama_model_load_from_file(path.as_ptr(), sys::llama_model_default_params());
        let mut params = sys::llama_context_default_params();
        params.n_ctx = 2048;
        params.n_batch = 2048;
        params.n_ubatch = 2048;
        params.n_threads = 2;
        params.n_threads_batch = 2;
        params.embeddings = true;
        params.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
        let context = sys::llama_init_from_model(model, params);
        let vocab = sys::llama_model_get_vocab(model);
        let mut tokens = vec![0; 2048];
        let n = sys::llama_tokenize(
            vocab,
            text.as_ptr().cast(),
            text.len() as i32,
            tokens.as_mut_ptr(),
            tokens.len() as i32,
            true,
            false,
        );
        assert_eq!(
            sys::llama_decode(context, sys::llama_batch_get_one(tokens.as_mut_ptr(), n)),
            0
        );
        let n_embd = sys::llama_model_n_embd(model) as usize;
        let rows = (0..n).map(|i| {
            let row = sys::llama_get_embeddings_ith(context, i);
            std::slice::from_raw_parts(row, n_embd).to_vec()
        });
        let rows = rows.collect();
        sys::llama_free(context);
        sys::llama_model_free(model);
        rows
    }
}

#[tokio::test]
async fn a_decoder_embeds_as_its_tokens_are_without_pooling() {
    let folder = tempfile::tempdir().unwrap();
    let last = pooled_smollm2(folder.path(), LAST);
    let embedder = load(&last);
    // More tokens than a slice has.
    let long = "The lighthouse keeper wrote down the wind and the waves. ".repeat(50);
    for text in ["Why is the sky blue?", &long] {
        let tokens = of_tokens(&last, text);
        let made = vectors(&embedder, &[text]).await;
        let close = cosine(&made[0], tokens.last().unwrap());
        assert!(close > 0.999, "{} tokens, the last: {close}", tokens.len());
    }
    let text = "Why is the sky blue?";
    let tokens = of_tokens(&last, text);
    let sum = |i: usize| tokens.iter().map(|token| token[i]).sum::<f32>();
    let expected: Vec<f32> = (0..tokens[0].len()).map(sum).collect();
    let mean = load(&pooled_smollm2(folder.path(), MEAN));
    let close = cosine(&vectors(&mean, &[text]).await[0], &expected);
    assert!(close > 0.999, "the mean: {close}");
}

#[tokio::test]
async fn what_is_too_long_is_refused_or_cut_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let embedder = load(&tiny_bert(folder.path(), CLS));
    let words = |n: usize| "sky ".repeat(n);
    let longest = embedder.text(&words(46), false).unwrap();
    assert_eq!(longest.len(), 48);
    let too_long = embedder.text(&words(47), false).expect_err("refused");
    assert!(
        matches!(
            too_long,
            EmbedError::TooLong {
                tokens: 49,
                n_ctx: 48
            }
        ),
        "{too_long}"
    );
    let too_many = embedder.text(&words(5000), false).expect_err("refused");
    assert!(matches!(too_many, EmbedError::TooManyBytes { .. }));
    // What stands behind every text still does.
    let client = || Client("a test".to_owned());
    let [whole, cut] = [longest, embedder.text(&words(5000), true).unwrap()];
    let both = embedder.embed(vec![whole, cut], client()).unwrap();
    let both = both.vectors().await.unwrap();
    assert_eq!(both[0], both[1]);
    // SmolLM2 puts nothing before or behind a text.
    let smollm2 = load(&pooled_smollm2(folder.path(), LAST));
    assert!(matches!(smollm2.text("", false), Err(EmbedError::Empty)));
}

#[tokio::test]
async fn who_goes_away_keeps_nobody_waiting_and_the_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let embedder = load(&pooled_smollm2(folder.path(), MEAN));
    let long = "The lighthouse keeper wrote down the wind and the waves. ".repeat(9);
    let long = embedder.text(&long, false).unwrap();
    let short = embedder.text("Hi", false).unwrap();
    let ask = |text: &cloister_engine::Text, n: usize, who: &str| {
        let client = Client(who.to_owned());
        embedder.embed(vec![text.clone(); n], client).unwrap()
    };
    let gone = ask(&long, 1000, "one");
    let waits = ask(&long, 1000, "two");
    // It has its turn after a text of the others, not after their thousand.
    let vectors = ask(&short, 2, "three").vectors().await.unwrap();
    assert_eq!(vectors.len(), 2);
    drop(gone);
    drop(embedder);
    assert!(matches!(waits.vectors().await, Err(GenerateError::Stopped)));
}

#[test]
fn a_file_says_whether_it_embeds() {
    let folder = tempfile::tempdir().unwrap();
    let of = |path: &Path| Pooling::of(&Gguf::open_header(path).unwrap().metadata);
    assert_eq!(of(&tiny_bert(folder.path(), CLS)), Pooling::Cls);
    let smollm2 = of(&support::cached("smollm2-135m-instruct-q4_1.gguf"));
    assert_eq!((smollm2, smollm2.embeds()), (Pooling::None, false));
}
