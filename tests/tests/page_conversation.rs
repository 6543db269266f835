//! What a person does with a conversation on the page, in Chromium.
//!
//! Where it matters what is answered, a tiny model answers that says one thing only, with R1's own
//! vocabulary and chat template.

use cloister_tests::page::Page;
use cloister_tests::parts::{scripted_r1, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;

/// Thinks "Hmm", then says "Yes". The template ends with a newline after the tag that it opens.
const YES: [&str; 5] = ["Ċ", "Hmm", "</think>", "Yes", "<｜end▁of▁sentence｜>"];

#[test]
fn a_reload_comes_back_to_the_open_conversation_with_what_had_come_of_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&scripted_r1(folder.path(), &YES), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    page.ask("Has a spider legs?");
    page.answer_when("done");
    page.reload();
    until("the conversation is there again", || {
        (page.conversation() == ["Has a spider legs?", "Yes"]).then_some(())
    });
    assert_eq!(page.state(), "done");
    page.browser.click("button#new");
    page.reload();
    assert_eq!(
        page.conversation(),
        Vec::<String>::new(),
        "a new one stays new"
    );
}

#[test]
fn a_reload_in_the_middle_of_an_answer_keeps_what_had_come_and_frees_the_slot() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.ask("Write a long story about a garden.");
    until("some words are there", || {
        (page.answer().len() > 20).then_some(())
    });
    page.reload();
    assert_eq!(page.state(), "stopped");
    until("the words are there again", || {
        (page.answer().len() > 20).then_some(())
    });
    until("the slot is free", || {
        (serve.metric("slots_busy") == 0.0).then_some(())
    });
}
