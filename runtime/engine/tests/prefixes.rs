//! Stored prefixes of templates, on a real model: another engine takes them over, and answers as if it had
//! computed them.

mod support;

use std::path::Path;

use cloister_engine::evaluate::Evaluator;
use cloister_engine::{
    Client, Conversation, Engine, Event, GenerateError, Generation, KvType, Message, Options,
    PrefixFolder, Priority, Request, Sampling, Usage,
};

const TEMPLATE: &str = "You are the voice of a house with eight rooms. The kitchen has a ceiling light, an oven and a \
    kettle. The living room has two lamps, a radio and a window that opens to the garden. The bedroom has a lamp and a \
    curtain. The garden has a gate, a fountain and a robot that cuts the grass on Mondays and Thursdays, unless it \
    rains. The cellar is dark and nobody goes there. You answer in one short sentence, politely, without lists, and \
    you never speak of yourself. When you do not know something you say so.";

fn engine(folder: &Path, change: impl FnOnce(&mut Options)) -> Engine {
    let mut options = Options {
        n_ctx: Some(512),
        prefixes: Some(PrefixFolder {
            path: folder.join("prefixes"),
            max_bytes: 64 << 20,
        }),
        ..Options::default()
    };
    change(&mut options);
    Engine::load(
        &support::cached("smollm2-135m-instruct-q4_1.gguf"),
        &options,
    )
    .expect("the model loads")
}

fn conversation(question: &str) -> Conversation {
    vec![
        Message::new("system", TEMPLATE),
        Message::new("user", question),
    ]
    .into()
}

fn ask(engine: &Engine, question: &str, client: &str) -> Request {
    let prompt = engine.prompt(&conversation(question)).expect("a prompt");
    Request {
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        ..Request::new(prompt, 16, Client(client.to_owned()))
    }
}

/// What was said, token by token, and what that took.
async fn listen(mut generation: Generation) -> Result<(Vec<String>, Usage), GenerateError> {
    let mut said = Vec::new();
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { content, .. } => said.push(content),
            Event::Done(completion) => return Ok((said, completion.usage)),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    panic!("ended without an end");
}

async fn answer(engine: &Engine, question: &str, client: &str) -> (Vec<String>, Usage) {
    let generation = engine.submit(ask(engine, question, client)).expect("room");
    listen(generation).await.expect("an answer")
}

/// Stores the template, said with some question of a user; gives how many tokens it has.
async fn store(engine: &Engine, question: &str) -> Option<usize> {
    let template = engine.template(&conversation(question)).expect("one");
    let owner = Client("owner".to_owned());
    let stored = engine.store(template, owner, Priority::Interactive);
    let usage = listen(stored.expect("room")?)
        .await
        .expect("it is stored")
        .1;
    Some(usage.prompt)
}

/// The difference between the two best logits after the prompt and a part of an answer.
fn lead(engine: &Engine, question: &str, said: &str) -> f32 {
    let mut evaluator = Evaluator::load(
        &support::cached("smollm2-135m-instruct-q4_1.gguf"),
        512,
        None,
    )
    .expect("the model loads");
    let mut tokens = ask(engine, question, "").prompt.tokens;
    tokens.extend(evaluator.tokenize(said));
    let last = tokens.len() - 1;
    let mut logits = evaluator.compute(&tokens, last).expect("logits").to_vec();
    logits.sort_unstable_by(f32::total_cmp);
    logits[logits.len() - 1] - logits[logits.len() - 2]
}

async fn compare(questions: usize) {
    let folder = tempfile::tempdir().unwrap();
    let stored = store(&engine(folder.path(), |_| {}), "?").await;
    let nothing_stored = tempfile::tempdir().unwrap();
    let with = engine(folder.path(), |_| {});
    let without = engine(nothing_stored.path(), |_| {});
    let (things, asks) = (
        ["kettle", "fountain", "radio", "gate", "robot"],
        ["Where is", "Is there", "Who made", "Turn off", "How old is"],
    );
    let mut worst = 0.0f32;
    for i in 0..questions {
        let (ask, thing) = (asks[i % 5], things[i / 5 % 5]);
        let question = format!("{ask} the {thing} number {i}?");
        // Each from another client, so that nothing is taken over within an engine.
        let client = i.to_string();
        let (on_stored, usage) = answer(&with, &question, &client).await;
        assert_eq!(Some(usage.cached), stored);
        let (computed, usage) = answer(&without, &question, &client).await;
        assert_eq!(usage.cached, 0);
        if on_stored != computed {
            let pairs = on_stored.iter().zip(&computed);
            let same = pairs.take_while(|(a, b)| a == b).count();
            let lead = lead(&without, &question, &computed[..same].concat());
            eprintln!("{question} {on_stored:?} or {computed:?}: {lead}");
            worst = worst.max(lead);
        }
    }
    assert!(worst < 0.01, "they part at a token that leads by {worst}");
}

#[tokio::test]
async fn an_answer_on_a_stored_prefix_is_the_one_that_is_computed() {
    compare(15).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn two_hundred_answers_on_a_stored_prefix_are_those_that_are_computed() {
    compare(200).await;
}

#[tokio::test]
async fn what_is_stored_does_not_depend_on_what_a_user_says() {
    let files: Vec<Vec<u8>> = {
        let mut files = Vec::new();
        for question in ["My secret is a purple cow.", "\n\nx"] {
            let folder = tempfile::tempdir().unwrap();
            let engine = engine(folder.path(), |_| {});
            store(&engine, question).await.expect("not there yet");
            // Answers leave nothing there.
            answer(&engine, question, "owner").await;
            assert_eq!(store(&engine, "again").await, None);
            drop(engine);
            let mut found = folder.path().join("prefixes").read_dir().unwrap();
            files.push(std::fs::read(found.next().unwrap().unwrap().path()).unwrap());
            assert!(found.next().is_none());
        }
        files
    };
    assert!(files[0] == files[1]);
}

#[tokio::test]
async fn all_slots_use_a_stored_prefix_and_what_a_client_says_after_it_stays_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), |_| {});
    let stored = store(&engine, "?").await.expect("not there yet");
    let clients = ["a", "b", "c", "d", "e"];
    let question = "Where is the kettle, and what else can be found there?";
    let running: Vec<Generation> = clients
        .iter()
        .map(|client| engine.submit(ask(&engine, question, client)).expect("room"))
        .collect();
    for generation in running {
        let (_, usage) = listen(generation).await.expect("an answer");
        assert_eq!(usage.cached, stored);
    }
    let (_, usage) = answer(&engine, question, "f").await;
    assert_eq!(usage.cached, stored);
    // Who asks again has more than that.
    let (_, usage) = answer(&engine, question, "f").await;
    assert!(usage.cached > stored);
}

#[tokio::test]
async fn a_prefix_of_another_context_or_a_damaged_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let stored = store(&engine(folder.path(), |_| {}), "?").await;
    assert!(stored.is_some());
    let changes: [fn(&mut Options); 3] = [
        |options| options.kv_type = KvType::Q8_0,
        |options| options.n_ctx = Some(1024),
        |options| options.n_slots = 2,
    ];
    for change in changes {
        let engine = engine(folder.path(), change);
        assert_eq!(answer(&engine, "Hi?", "a").await.1.cached, 0);
    }
    let again = engine(folder.path(), |_| {});
    let mut files = folder.path().join("prefixes").read_dir().unwrap();
    let file = files.next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(answer(&again, "Hi?", "a").await.1.cached, 0);
    // It is computed and stored again.
    assert_eq!(store(&again, "?").await, stored);
    assert_eq!(Some(answer(&again, "Hi?", "b").await.1.cached), stored);
}
