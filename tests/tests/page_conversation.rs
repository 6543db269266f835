//! What a person does with a conversation on the page, in Chromium.
//!
//! Where it matters what is answered, a tiny model answers that says one thing only, with R1's own
//! vocabulary and chat template.

use cloister_tests::browser::key;
use cloister_tests::page::Page;
use cloister_tests::parts::{scripted_r1, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

/// Thinks "Hmm", then says "Yes". The template ends with a newline after the tag that it opens.
const YES: [&str; 5] = ["Ċ", "Hmm", "</think>", "Yes", "<｜end▁of▁sentence｜>"];

/// An answer as the browser keeps it.
fn kept(state: &str, content: &str, error: Option<&str>) -> Value {
    json!({
        "role": "assistant", "state": state, "content": content, "reasoning": "", "thoughtMs": null,
        "timings": null, "finish": null, "error": error, "tooLong": false,
    })
}

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
    assert_eq!(
        page.state(),
        "stopped",
        "{}",
        page.of_last_answer(".failure")
    );
    until("the words are there again", || {
        (page.answer().len() > 20).then_some(())
    });
    until("the slot is free", || {
        (serve.metric("slots_busy") == 0.0).then_some(())
    });
}

#[test]
fn retry_asks_again_in_place_of_an_answer_that_failed_or_came() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&scripted_r1(folder.path(), &YES), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    page.keep(&json!([
        {"role": "user", "content": "Has a spider legs?"},
        kept("error", "", Some("The box does not answer.")),
    ]));
    assert_eq!(page.state(), "error");
    for asked in [1.0, 2.0] {
        page.browser.click("button.retry");
        until("the answer has come again", || {
            let finished = serve.metric("requests_finished_total");
            (finished == asked && page.state() == "done").then_some(())
        });
        until("it is shown", || {
            (page.conversation() == ["Has a spider legs?", "Yes"]).then_some(())
        });
        assert_eq!(page.of_last_answer(".failure:not([hidden])"), "");
    }
    page.reload();
    until("it is what was kept", || {
        (page.conversation() == ["Has a spider legs?", "Yes"]).then_some(())
    });
}

#[test]
fn an_edited_question_takes_the_place_of_what_followed_it() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&scripted_r1(folder.path(), &YES), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    let before = ["Has a spider legs?", "Yes", "Has a snake?", "No"];
    page.keep(&json!([
        {"role": "user", "content": before[0]}, kept("done", before[1], None),
        {"role": "user", "content": before[2]}, kept("done", before[3], None),
    ]));
    until("the conversation is shown", || {
        (page.conversation() == before).then_some(())
    });
    page.browser.click("button.edit");
    page.browser.type_into("textarea.editing", " Or not?");
    page.browser.click("button.cancel-edit");
    assert_eq!(page.conversation(), before, "nothing is lost by a look");

    page.browser.click("button.edit");
    page.browser.type_into("textarea.editing", " Eight?");
    page.browser.click("button.send-edit");
    let after = ["Has a spider legs? Eight?", "Yes"];
    until("the new answer is there", || {
        (page.conversation() == after && page.state() == "done").then_some(())
    });
    assert_eq!(
        page.text("document.querySelector('#conversations .open').textContent"),
        after[0]
    );
    page.reload();
    until("it is what was kept", || {
        (page.conversation() == after).then_some(())
    });
}

#[test]
fn an_answer_and_its_code_are_copied_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&scripted_r1(folder.path(), &YES), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    let written = "So **it** is \\(x\\):\n\n```sh\nls -l\n```";
    page.keep(&json!([{"role": "user", "content": "How?"}, kept("done", written, None)]));
    until("the code is shown", || {
        page.holds("document.querySelector('button.copy-code')")
    });
    // Over plain HTTP, which is how the box is reached, a browser has no clipboard for scripts.
    for clipboard in [true, false] {
        if !clipboard {
            page.browser
                .run("Object.defineProperty(navigator, 'clipboard', {value: undefined})");
        }
        for (button, wanted) in [("button.copy", written), ("button.copy-code", "ls -l\n")] {
            page.browser.run(&format!(
                "window.labels = []; const button = document.querySelector('{button}'); \
                 new MutationObserver(() => labels.push(button.textContent)).observe(button, {{childList: true}})"
            ));
            page.browser.click(button);
            until("the button says so", || {
                page.holds("labels.includes('Copied')")
            });
            page.browser
                .run("const prompt = document.getElementById('prompt'); prompt.value = ''; prompt.focus()");
            page.browser.press(&[key::CONTROL, 'v']);
            until("it is pasted", || {
                (page.text("document.getElementById('prompt').value") == wanted).then_some(())
            });
        }
    }
}
