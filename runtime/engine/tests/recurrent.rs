//! Recurrent models: their state cannot be cut back to an earlier token, only forgotten. A tiny mamba with
//! random weights and a real vocabulary.

mod support;

use std::path::{Path, PathBuf};

use cloister_engine::{
    Client, Engine, Event, Generation, Message, Options, Request, Sampling, Trial, rehearse,
};
use cloister_gguf::{Gguf, Metadata, TensorInfo, TensorType, Value, Writer};

const HIDDEN: u64 = 64;
const INNER: u64 = 2 * HIDDEN;
const STATE: u64 = 16;
const RANK: u64 = 4;
const CONV: u64 = 4;
const LAYERS: u64 = 2;

fn tiny_mamba(folder: &Path) -> PathBuf {
    let smollm2 = support::cached("smollm2-135m-instruct-q4_1.gguf");
    let source = Gguf::open_header(&smollm2).expect("run tests/fetch");
    let tokens = source.metadata.get("tokenizer.ggml.tokens");
    let vocabulary = tokens.and_then(Value::as_array).expect("tokens").len() as u64;

    let mut metadata = Metadata::default();
    metadata.set("general.architecture", "mamba");
    for (key, value) in source.metadata.iter() {
        if key.starts_with("tokenizer.") {
            metadata.set(key, value.clone());
        }
    }
    for (key, value) in [
        ("context_length", 4096),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", 0),
        ("attention.head_count", 0),
        ("block_count", LAYERS),
        ("ssm.conv_kernel", CONV),
        ("ssm.inner_size", INNER),
        ("ssm.state_size", STATE),
        ("ssm.time_step_rank", RANK),
    ] {
        metadata.set(&format!("mamba.{key}"), value as u32);
    }
    metadata.set("mamba.attention.layer_norm_rms_epsilon", 1e-5f32);

    let path = folder.join("tiny-mamba.gguf");
    let mut writer = Writer::create(&path, &metadata, tensors(vocabulary)).expect("a file");
    let mut state = 1u64;
    while let Some(tensor) = writer.next_tensor().cloned() {
        let mut random = || {
            // Knuth's MMIX generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let bytes: Vec<u8> = (0..tensor.elements())
            .flat_map(|_| {
                let value = match tensor.name.as_str() {
                    name if name.ends_with("norm.weight") => 1.0,
                    name if name.ends_with("ssm_a") => -1.0 - random().abs(),
                    _ => random(),
                };
                value.to_le_bytes()
            })
            .collect();
        writer.write(&bytes).expect("written");
    }
    writer.finish().expect("finished");
    path
}

fn tensors(vocabulary: u64) -> Vec<TensorInfo> {
    let tensor = |name: &str, dims: &[u64]| {
        TensorInfo::new(name.to_owned(), dims.to_vec(), TensorType::F32).expect("a sound shape")
    };
    let mut all = vec![
        tensor("token_embd.weight", &[HIDDEN, vocabulary]),
        tensor("output_norm.weight", &[HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, dims) in [
            ("attn_norm.weight", &[HIDDEN][..]),
            ("ssm_in.weight", &[HIDDEN, 2 * INNER]),
            ("ssm_conv1d.weight", &[CONV, INNER]),
            ("ssm_conv1d.bias", &[INNER]),
            ("ssm_x.weight", &[INNER, RANK + 2 * STATE]),
            ("ssm_dt.weight", &[RANK, INNER]),
            ("ssm_dt.bias", &[INNER]),
            ("ssm_a", &[STATE, INNER]),
            ("ssm_d", &[INNER]),
            ("ssm_out.weight", &[INNER, HIDDEN]),
        ] {
            all.push(tensor(&format!("blk.{layer}.{name}"), dims));
        }
    }
    all
}

fn ask(engine: &Engine, question: &str, max_tokens: usize, client: &str) -> Generation {
    let prompt = engine.prompt(&vec![Message::new("user", question)].into());
    let client = Client(client.to_owned());
    let request = Request {
        sampling: Sampling {
            temperature: 0.0,
            ignore_eos: true,
            ..Sampling::default()
        },
        ..Request::new(prompt.expect("a prompt"), max_tokens, client)
    };
    engine.submit(request).expect("room")
}

/// The text and how many tokens of the prompt were used.
async fn listen(mut generation: Generation) -> (String, usize) {
    let mut text = String::new();
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { content, reasoning } => text += &(reasoning + &content),
            Event::Done(completion) => return (text, completion.usage.prompt),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("ended without an end");
}

#[tokio::test]
async fn a_state_that_cannot_be_cut_back_is_computed_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = tiny_mamba(folder.path());
    let options = Options {
        n_ctx: Some(2048),
        n_slots: 2,
        ..Options::default()
    };
    let trial = Trial {
        n_ctx: 2048,
        n_slots: 2,
        n_batch: 512,
        n_outputs: Some(9),
        n_threads: 2,
        kv_type: Default::default(),
    };
    rehearse(&path, trial).expect("it runs");
    let engine = Engine::load(&path, &options).expect("it loads");

    // The same beginning, another end: attention would keep the beginning.
    listen(ask(&engine, "Tell me of the sea and its storms.", 6, "a")).await;
    let other = "Tell me of the sea and its fish.";
    let again = listen(ask(&engine, other, 6, "a")).await;
    assert_eq!(again, listen(ask(&engine, other, 6, "b")).await);

    // A batch that is interrupted because one of its two requests has gone.
    let alone = listen(ask(&engine, other, 40, "c")).await;
    for _ in 0..4 {
        let mut running = ask(&engine, other, 40, "d");
        while !matches!(running.next().await, Some(Event::Text { .. })) {}
        let mut doomed = ask(&engine, &"word ".repeat(1500), 8, "e");
        doomed.next().await;
        drop(doomed);
        let (rest, prompt) = listen(running).await;
        assert_eq!(prompt, alone.1);
        assert!(alone.0.ends_with(&rest), "{rest:?} {alone:?}");
    }
}
