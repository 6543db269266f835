//! What the page shows and says while an answer is waited for, in Chromium.

use std::path::Path;

use cloister_tests::page::Page;
use cloister_tests::parts::{scripted_r1, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use serde_json::json;

/// A model whose answer ends only with its context.
fn endless(folder: &Path) -> std::path::PathBuf {
    scripted_r1(folder, &["Ċ", "</think>", "Yes", "Ċ"])
}

#[test]
fn the_place_in_the_queue_is_shown_and_said_until_the_answer_begins() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--slots", "1", "--ctx", "4096"];
    let serve = Serve::start(&endless(folder.path()), &options);
    let page = Page::open(&serve);
    page.listen();
    page.watch_the_waiting();
    let ask = json!({"messages": [{"role": "user", "content": "Has a spider legs?"}]});
    // One is answered, the others wait, and the page behind them.
    let mut others: Vec<_> = (0..3).map(|_| serve.open_chat_stream(&ask)).collect();
    page.ask("Has a snake legs?");
    let place = || match page.waits().last()?.strip_suffix(" in the queue")? {
        "Next" => Some(1),
        words => words.strip_prefix("Number ")?.parse::<usize>().ok(),
    };
    loop {
        // Whoever came to the end of the context by themselves has given way already.
        let at_most = others.len();
        if until("the place is shown", || {
            place().filter(|place| *place <= at_most)
        }) == 1
        {
            break;
        }
        others.remove(0);
    }
    drop(others);
    until("some of the answer is there", || {
        (!page.answer().is_empty()).then_some(())
    });
    let waits = page.waits();
    let places: Vec<&String> = waits
        .iter()
        .filter(|words| words.contains("queue"))
        .collect();
    assert_eq!(
        places.last().unwrap().as_str(),
        "Next in the queue",
        "{waits:?}"
    );
    for place in places {
        assert!(
            page.said().contains(&format!("{place}.")),
            "{place}: {:?}",
            page.said()
        );
    }
    assert_eq!(page.of_last_answer(".waiting:not([hidden])"), "");
}

#[test]
fn a_bar_shows_how_much_of_a_long_conversation_is_read() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.watch_the_waiting();
    page.set(&json!({"system": "The garden is green. ".repeat(250), "maxTokens": 1}));
    page.ask("Is it?");
    page.answer_when("done");
    let waits = page.waits();
    // "Reading: 512 of 1300 tokens | 512 of 1300": the words and the bar.
    let read: Vec<(u32, u32)> = waits
        .iter()
        .filter_map(|words| {
            let (words, bar) = words.strip_prefix("Reading: ")?.split_once(" tokens | ")?;
            assert_eq!(words, bar, "{waits:?}");
            let (read, of) = bar.split_once(" of ")?;
            Some((read.parse().unwrap(), of.parse().unwrap()))
        })
        .collect();
    assert!(read.len() > 1, "{waits:?}");
    assert!(read.is_sorted(), "{waits:?}");
    assert!(
        read.iter().all(|(read, of)| *of > 1000 && read <= of),
        "{waits:?}"
    );
}

#[test]
fn the_live_region_says_each_step_and_the_whole_answer_once() {
    let folder = tempfile::tempdir().unwrap();
    let script = [
        "Ċ",
        "Hmm",
        "</think>",
        "Yes",
        ",",
        "Ġthe",
        "Ġgarden",
        "Ġhas",
        "Ġa",
        "Ġ**",
        "green",
        "**",
        "Ġdoor",
        ".",
        "<｜end▁of▁sentence｜>",
    ];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    for _ in 0..3 {
        page.listen();
        page.ask("Has the garden a door?");
        until("the answer is said", || {
            page.said()
                .iter()
                .any(|words| words.starts_with("Answer: "))
                .then_some(())
        });
        assert_eq!(
            page.said(),
            [
                "Waiting for the answer.",
                "Thinking.",
                "Answering.",
                "Answer: Yes, the garden has a green door."
            ]
        );
        page.browser.click("button#new");
    }
}

#[test]
fn a_stop_and_a_failure_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(&endless(folder.path()), &["--ctx", "4096"]);
    let page = Page::open(&serve);
    page.listen();
    page.stop_on_its_way();
    until("it is said", || {
        (page.said().last()? == "Stopped.").then_some(())
    });
    serve.stop();
    page.ask("Has a snake legs?");
    page.answer_when("error");
    let why = page.of_last_answer(".failure");
    until("it is said", || {
        (*page.said().last()? == format!("No answer. {why}")).then_some(())
    });
}
