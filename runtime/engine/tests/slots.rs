//! Slots, queue and cancel, on a real model.

mod support;

use std::time::{Duration, Instant};

use cloister_engine::{
    Client, Engine, Event, FinishReason, GenerateError, Generation, Message, Options, Priority,
    PromptError, Request, Sampling,
};

fn engine(options: &Options) -> Engine {
    let path = support::cached("smollm2-135m-instruct-q4_1.gguf");
    Engine::load(&path, options).expect("the model loads")
}

fn ask(engine: &Engine, question: &str, max_tokens: usize, client: &str) -> Request {
    let prompt = engine.prompt(&vec![Message::new("user", question)].into());
    let client = Client(client.to_owned());
    Request {
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        ..Request::new(prompt.expect("a prompt"), max_tokens, client)
    }
}

struct Heard {
    text: String,
    cached: usize,
    reason: FinishReason,
}

async fn listen(mut generation: Generation) -> Heard {
    let mut text = String::new();
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { content, .. } => text += &content,
            Event::Done(completion) => {
                return Heard {
                    text,
                    cached: completion.usage.cached,
                    reason: completion.finish_reason,
                };
            }
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("ended without an end");
}

#[tokio::test]
async fn requests_in_one_batch_get_the_answers_they_get_alone() {
    let engine = engine(&Options {
        n_ctx: Some(1024),
        ..Options::default()
    });
    let long: String = (0..40)
        .map(|i| format!("On day {i} we saw {} ships. ", i * 7 % 11))
        .collect();
    let questions = [
        "Name a colour.",
        "What is two plus two?",
        &format!("{long}Which day was the best?"),
        "Where do cats sleep?",
        &format!("{long}What do ships carry?"),
    ];
    let mut alone = Vec::new();
    for question in questions {
        // Each from another client, so that none builds on another's prompt.
        let request = ask(&engine, question, 24, question);
        alone.push(listen(engine.submit(request).expect("room")).await.text);
    }
    let together: Vec<Generation> = questions
        .iter()
        .map(|q| engine.submit(ask(&engine, q, 24, "all")).expect("room"))
        .collect();
    for (generation, alone) in together.into_iter().zip(alone) {
        // The kernels compute a token in the same order whatever it is computed with.
        assert_eq!(listen(generation).await.text, alone);
    }
}

#[tokio::test]
async fn a_conversations_next_turn_takes_over_what_its_client_computed() {
    let engine = engine(&Options {
        n_ctx: Some(512),
        ..Options::default()
    });
    let first = listen(
        engine
            .submit(ask(&engine, "Tell me of the sea.", 8, "a"))
            .expect("room"),
    )
    .await;
    assert_eq!(first.cached, 0);
    assert_eq!(first.reason, FinishReason::Length);
    let again = listen(
        engine
            .submit(ask(&engine, "Tell me of the sea.", 8, "a"))
            .expect("room"),
    )
    .await;
    assert!(again.cached > 20, "{}", again.cached);
    assert_eq!(again.text, first.text);
    let other = listen(
        engine
            .submit(ask(&engine, "Tell me of the sea.", 8, "b"))
            .expect("room"),
    )
    .await;
    assert_eq!(other.cached, 0, "another client must not build on it");
}

#[tokio::test]
async fn two_conversations_of_one_client_do_not_forget_each_other() {
    let engine = engine(&Options {
        n_ctx: Some(512),
        n_slots: 3,
        ..Options::default()
    });
    let [sea, fire] = ["sea", "fire"].map(|word| format!("{word} is what I know. ").repeat(20));
    let hear = async |text: &str| {
        let request = ask(&engine, text, 4, "a");
        let tokens = request.prompt.tokens.len();
        let heard = listen(engine.submit(request).expect("room")).await;
        (heard.cached, tokens, heard.text)
    };
    let (_, _, first) = hear(&sea).await;
    hear(&fire).await;
    for _ in 0..2 {
        let (cached, tokens, text) = hear(&sea).await;
        assert_eq!((cached, text), (tokens - 1, first.clone()));
        let (cached, tokens, _) = hear(&fire).await;
        assert_eq!(cached, tokens - 1);
    }
    // What begins alike is taken over, and what it was taken from stays.
    let (cached, ..) = hear(&format!("{sea} And now?")).await;
    assert!(cached > 60, "{cached}");
    for text in [&sea, &fire] {
        let (cached, tokens, _) = hear(text).await;
        assert!(cached + 16 > tokens, "{cached} of {tokens}");
    }
}

#[tokio::test]
async fn what_a_running_request_has_read_is_taken_over_by_its_client_alone() {
    let engine = engine(&Options {
        n_ctx: Some(512),
        n_slots: 4,
        ..Options::default()
    });
    let sea = "The sea is what I know. ".repeat(20);
    let mut running = engine.submit(ask(&engine, &sea, 300, "a")).expect("room");
    while !matches!(running.next().await, Some(Event::Text { .. })) {}
    let mut cached = Vec::new();
    for client in ["a", "b"] {
        let request = ask(&engine, &format!("{sea} And now?"), 4, client);
        cached.push(listen(engine.submit(request).expect("room")).await.cached);
    }
    assert!(cached[0] > 60 && cached[1] == 0, "{cached:?}");
    drop(running);
}

#[tokio::test]
async fn a_dropped_request_frees_its_slot_even_while_its_prompt_is_read() {
    let engine = engine(&Options {
        n_ctx: Some(2048),
        n_slots: 1,
        ..Options::default()
    });
    let long = "word ".repeat(1500);
    let mut stats = engine.stats();
    for n in 1..=3 {
        let mut generation = engine.submit(ask(&engine, &long, 8, "a")).expect("room");
        assert!(matches!(
            generation.next().await,
            Some(Event::Prefill { processed: 0, .. })
        ));
        drop(generation);
        stats
            .wait_for(|stats| stats.cancelled == n && stats.busy == 0 && stats.waiting == 0)
            .await
            .expect("the engine lives");
    }
    // What was interrupted left nothing behind that changes an answer.
    let alone = listen(
        engine
            .submit(ask(&engine, "Name a colour.", 16, "b"))
            .expect("room"),
    )
    .await
    .text;
    let again = listen(
        engine
            .submit(ask(&engine, "Name a colour.", 16, "c"))
            .expect("room"),
    )
    .await
    .text;
    assert_eq!(alone, again);
}

#[tokio::test]
async fn a_cancel_leaves_the_other_slots_answers_as_they_were() {
    let engine = engine(&Options {
        n_ctx: Some(2048),
        n_slots: 2,
        ..Options::default()
    });
    let alone = listen(
        engine
            .submit(ask(&engine, "Name a colour.", 12, "a"))
            .expect("room"),
    )
    .await
    .text;
    let running = engine
        .submit(ask(&engine, "Name a colour.", 12, "b"))
        .expect("room");
    let mut doomed = engine
        .submit(ask(&engine, &"word ".repeat(1500), 8, "c"))
        .expect("room");
    assert!(doomed.next().await.is_some());
    drop(doomed);
    assert_eq!(listen(running).await.text, alone);
}

#[tokio::test]
async fn who_waits_hears_their_place_and_a_full_queue_refuses() {
    let engine = engine(&Options {
        n_ctx: Some(512),
        n_slots: 1,
        queue: 2,
        ..Options::default()
    });
    let mut running = engine
        .submit(ask(&engine, "Count.", 200, "a"))
        .expect("room");
    assert!(matches!(running.next().await, Some(Event::Prefill { .. })));
    let mut second = engine.submit(ask(&engine, "Hi.", 4, "a")).expect("room");
    let mut third = engine.submit(ask(&engine, "Hi.", 4, "a")).expect("room");
    assert!(engine.submit(ask(&engine, "Hi.", 4, "a")).is_err());
    assert!(matches!(
        second.next().await,
        Some(Event::Queued { position: 1 })
    ));
    assert!(matches!(
        third.next().await,
        Some(Event::Queued { position: 2 })
    ));
    drop(second);
    assert!(matches!(
        third.next().await,
        Some(Event::Queued { position: 1 })
    ));
    drop(running);
    assert_eq!(listen(third).await.reason, FinishReason::Length);
}

/// One slot, and a request in it that does not end by itself; who comes now waits.
async fn busy_engine(queue: usize) -> (Engine, Generation) {
    let engine = engine(&Options {
        n_ctx: Some(2048),
        n_slots: 1,
        queue,
        ..Options::default()
    });
    let mut request = ask(&engine, "Count.", 2000, "a");
    request.sampling.ignore_eos = true;
    let mut running = engine.submit(request).expect("room");
    assert!(matches!(running.next().await, Some(Event::Prefill { .. })));
    (engine, running)
}

/// The place that a request hears of next.
async fn place(generation: &mut Generation) -> usize {
    match generation.next().await {
        Some(Event::Queued { position }) => position,
        event => panic!("{event:?} is no place"),
    }
}

#[tokio::test]
async fn who_waits_in_person_is_answered_before_an_automation() {
    let (engine, running) = busy_engine(8).await;
    let submit = |priority, client| {
        let mut request = ask(&engine, "Hi.", 4, client);
        request.priority = priority;
        engine.submit(request).expect("room")
    };
    let mut automation = submit(Priority::Automation, "b");
    assert_eq!(place(&mut automation).await, 1);
    let mut person = submit(Priority::Interactive, "c");
    assert_eq!(place(&mut person).await, 1);
    assert_eq!(place(&mut automation).await, 2);
    drop(running);
    assert_eq!(listen(person).await.reason, FinishReason::Length);
    assert_eq!(listen(automation).await.reason, FinishReason::Length);
}

#[tokio::test]
async fn a_client_with_many_requests_does_not_keep_another_waiting() {
    let (engine, running) = busy_engine(8).await;
    let submit = |client| engine.submit(ask(&engine, "Hi.", 4, client));
    let mut many: Vec<Generation> = (0..6).map(|_| submit("a").expect("room")).collect();
    assert_eq!(place(&mut many[0]).await, 1);
    // A quarter of the queue is for others, who come next, for "a" is answered already.
    assert!(submit("a").is_err());
    let mut other = submit("b").expect("room");
    assert_eq!(place(&mut other).await, 1);
    assert_eq!(place(&mut many[0]).await, 2);
    submit("c").expect("room");
    drop(running);
    assert_eq!(listen(other).await.reason, FinishReason::Length);
    for generation in many {
        assert_eq!(listen(generation).await.reason, FinishReason::Length);
    }
}

#[tokio::test]
async fn a_request_ends_at_its_deadline_waiting_or_running() {
    let (engine, running) = busy_engine(8).await;
    let submit = |after: Duration| {
        let mut request = ask(&engine, "Hi.", 2000, "b");
        request.sampling.ignore_eos = true;
        request.deadline = Some(Instant::now() + after);
        engine.submit(request).expect("room")
    };
    let failed = async |mut generation: Generation| loop {
        match generation.next().await {
            Some(Event::Failed(error)) => return error,
            Some(Event::Done(_)) | None => panic!("it was not ended"),
            _ => {}
        }
    };
    let waiting = failed(submit(Duration::from_millis(50))).await;
    assert!(matches!(waiting, GenerateError::Deadline), "{waiting}");
    drop(running);
    let answered = failed(submit(Duration::from_millis(200))).await;
    assert!(matches!(answered, GenerateError::Deadline), "{answered}");
    let mut stats = engine.stats();
    let idle = stats.wait_for(|stats| stats.busy == 0 && stats.waiting == 0);
    idle.await.expect("the engine lives");
}

#[tokio::test]
async fn between_the_slices_of_a_long_prompt_a_running_answer_has_steps_of_its_own() {
    let engine = engine(&Options {
        n_ctx: Some(2048),
        n_slots: 2,
        // However busy the machine is, a step takes its time and no barrier's.
        n_threads: Some(1),
        ..Options::default()
    });
    let mut request = ask(&engine, "Count.", 2000, "a");
    request.sampling.ignore_eos = true;
    let mut running = engine.submit(request).expect("room");
    while !matches!(running.next().await, Some(Event::Text { .. })) {}
    let mut long = engine
        .submit(ask(&engine, &"word ".repeat(1200), 1, "b"))
        .expect("room");
    let (mut slices, mut pieces) = (0, 0);
    loop {
        tokio::select! {
            event = long.next() => match event {
                Some(Event::Prefill { .. }) => slices += 1,
                Some(Event::Done(_)) => break,
                _ => {}
            },
            _ = running.next() => pieces += 1,
        }
    }
    assert!(slices > 5, "{slices}");
    assert!(
        pieces > 3 * slices,
        "{pieces} pieces of the answer beside {slices} slices"
    );
}

#[tokio::test]
async fn what_does_not_fit_the_context_is_refused_with_the_numbers() {
    let engine = engine(&Options {
        n_ctx: Some(256),
        ..Options::default()
    });
    let prompt = ask(&engine, "Hi.", 1, "a").prompt;
    let n = prompt.tokens.len();
    assert_eq!(engine.max_tokens(&prompt, None).expect("fits"), 256 - n);
    let error = engine
        .max_tokens(&prompt, Some(256))
        .expect_err("too long")
        .to_string();
    assert!(
        error.contains(&(256 + n).to_string()) && error.contains("256"),
        "{error}"
    );
}

#[test]
fn a_prompt_of_more_bytes_than_any_tokens_could_hold_is_refused_by_its_bytes() {
    let engine = engine(&Options {
        n_ctx: Some(256),
        ..Options::default()
    });
    let prompt = |text: String| engine.prompt(&vec![Message::new("user", text)].into());
    let refused = prompt("word ".repeat(3 << 20)).expect_err("too long");
    assert!(
        matches!(refused, PromptError::TooManyBytes { least, n_ctx: 256, .. } if least > 256),
        "{refused}"
    );
    // What is long in bytes and short in tokens is not: one token of this vocabulary is many spaces.
    let spaces = prompt(" ".repeat(1000)).expect("fits");
    assert!(spaces.tokens.len() < 256, "{}", spaces.tokens.len());
}

#[tokio::test]
async fn an_engine_whose_thread_has_ended_says_so_and_leaves_nobody_waiting() {
    let engine = engine(&Options {
        n_ctx: Some(256),
        ..Options::default()
    });
    assert!(engine.runs());
    engine.stop();
    for _ in 0..2 {
        let mut asked = engine.submit(ask(&engine, "Hi.", 4, "a")).expect("room");
        while let Some(event) = asked.next().await {
            assert!(matches!(event, Event::Failed(_)), "{event:?}");
        }
    }
    while engine.runs() {
        std::thread::yield_now();
    }
}

#[test]
fn a_file_that_is_no_model_gets_one_clear_error() {
    let folder = std::env::temp_dir().join(format!("cloister-engine-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("no.gguf");
    std::fs::write(&file, b"GGUF? no, this is a letter.").expect("written");
    let error = Engine::load(&file, &Options::default())
        .err()
        .expect("refused")
        .to_string();
    std::fs::remove_dir_all(&folder).expect("removed");
    assert!(error.contains("no.gguf"), "{error}");
}
