//! Speculation, on a real model: the same answers with drafts as without, drawn or greedy, held to a shape or
//! free.

mod support;

use cloister_engine::{
    Client, Completion, Engine, Event, FinishReason, Hold, KvType, Message, Options, Request,
    Sampling, Shape,
};

fn engine(kv_type: KvType) -> Engine {
    let path = support::cached("smollm2-135m-instruct-q4_1.gguf");
    let options = Options {
        n_ctx: Some(2048),
        kv_type,
        ..Options::default()
    };
    Engine::load(&path, &options).expect("the model loads")
}

const COPY: &str = "Repeat this list exactly: apple, pear, plum, cherry, apple, pear, plum, cherry, apple, pear, plum.";

fn ask(engine: &Engine, question: &str, sampling: Sampling) -> Request {
    let prompt = engine.prompt(&vec![Message::new("user", question)].into());
    Request {
        sampling,
        ..Request::new(prompt.expect("a prompt"), 80, Client("a".to_owned()))
    }
}

async fn answer(engine: &Engine, request: Request) -> (String, Completion) {
    let mut generation = engine.submit(request).expect("room");
    let mut text = String::new();
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { content, .. } => text += &content,
            Event::Done(completion) => return (text, completion),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("ended without an end");
}

/// The answer without drafts, and the tokens drafted and accepted for the same with them.
async fn compared(engine: &Engine, request: Request) -> (String, usize, usize) {
    let mut without = request.clone();
    without.most_drafted = Some(0);
    let (plain, completion) = answer(engine, without).await;
    assert_eq!(completion.timings.drafted_tokens, 0);
    let (text, with) = answer(engine, request.clone()).await;
    assert_eq!(text, plain, "{request:?}");
    assert_eq!(with.finish_reason, completion.finish_reason);
    assert_eq!(with.usage.completion, completion.usage.completion);
    (
        plain,
        with.timings.drafted_tokens,
        with.timings.accepted_tokens,
    )
}

#[tokio::test]
async fn answers_are_the_same_with_drafts_and_some_of_these_come() {
    let engine = engine(KvType::F16);
    let questions = [
        COPY,
        "Write down the numbers from one to twenty, again and again.",
        "Tell me a story of a cat and a dog, and tell it twice.",
        "Why is the sky blue?",
    ];
    let drawn = |seed| Sampling {
        temperature: 0.7,
        seed: Some(seed),
        repeat_penalty: 1.1,
        ..Sampling::default()
    };
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let (mut drafted, mut accepted) = (0, 0);
    for question in questions {
        for sampling in [greedy.clone(), drawn(1)] {
            let (_, d, a) = compared(&engine, ask(&engine, question, sampling)).await;
            assert!(a <= d);
            (drafted, accepted) = (drafted + d, accepted + a);
        }
    }
    assert!(accepted > 50, "{accepted} of {drafted} drafted tokens came");
}

/// The kernels compute a token's attention in the same order whether it is alone or beside drafts; ggml's own, which
/// `--no-kernels` leaves it to, does so up to 512 tokens only.
#[tokio::test]
async fn behind_a_long_text_answers_are_the_same_with_drafts_too() {
    let long: String = (0..100)
        .map(|i| {
            format!(
                "On day {i} we saw {} ships and {} birds. ",
                i * 7 % 11,
                i * 5 % 13
            )
        })
        .collect();
    for kv_type in [KvType::F16, KvType::Q8_0] {
        let engine = engine(kv_type);
        let (mut drafted, mut accepted) = (0, 0);
        for (seed, question) in ["Repeat what we saw, day by day.", "Which day was the best?"]
            .into_iter()
            .enumerate()
        {
            for temperature in [0.0, 0.7] {
                let sampling = Sampling {
                    temperature,
                    seed: Some(seed as u32),
                    ..Sampling::default()
                };
                let request = ask(&engine, &format!("{long}{question}"), sampling);
                assert!(request.prompt.tokens.len() > 1000);
                let (_, d, a) = compared(&engine, request).await;
                (drafted, accepted) = (drafted + d, accepted + a);
            }
        }
        assert!(accepted > 10, "{accepted} of {drafted} drafted tokens came");
    }
}

#[tokio::test]
async fn an_answer_that_is_held_to_a_shape_or_stopped_stays_what_it_is() {
    let engine = engine(KvType::F16);
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let mut request = ask(&engine, COPY, greedy);
    let words = Shape::Regex("((apple|pear|plum|cherry), ){12}end".to_owned());
    request.grammar = Some((engine.grammar(&words).expect("sound"), Hold::Answer));
    let (text, _, _) = compared(&engine, request.clone()).await;
    assert!(text.ends_with(", end"), "{text}");
    request.grammar = None;
    request.stop = vec!["cherry, apple".to_owned()];
    compared(&engine, request.clone()).await;
    // What was drafted and did not come is not in the cache of the next turn.
    for max_tokens in 1..12 {
        request.stop.clear();
        request.max_tokens = max_tokens;
        let (_, completion) = answer(&engine, request.clone()).await;
        assert!(completion.usage.completion <= max_tokens);
        assert!(matches!(
            completion.finish_reason,
            FinishReason::Length | FinishReason::Stop
        ));
    }
}
