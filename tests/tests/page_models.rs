//! The choice of a model on the page, in Chromium: what answers is what the page says that it is.

use std::path::Path;

use cloister_tests::page::Page;
use cloister_tests::parts::scripted_r1;
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use serde_json::json;

/// A tiny model in `folder` by this name that thinks "Hmm" and answers every question with `answer`.
fn says(folder: &Path, name: &str, answer: &str) -> std::path::PathBuf {
    let script = ["Ċ", "Hmm", "</think>", answer, "<｜end▁of▁sentence｜>"];
    let file = folder.join(format!("{name}.gguf"));
    std::fs::rename(scripted_r1(folder, &script), &file).unwrap();
    file
}

/// Waits until this model is the one that is chosen.
fn chosen(page: &Page, name: &str) {
    until(&format!("{name} is chosen"), || {
        (page.model() == name).then_some(())
    });
}

#[test]
fn a_page_left_open_asks_the_model_that_the_box_came_back_with() {
    let folder = tempfile::tempdir().unwrap();
    let first = says(folder.path(), "first", "Yes");
    let second = says(folder.path(), "second", "No");
    let options = ["--ctx", "1024"];
    let mut serve = Serve::start(&first, &options);
    let page = Page::open(&serve);
    assert_eq!(page.model(), "first");
    page.ask("Has a spider legs?");
    assert_eq!(page.answer_when("done"), "Yes");

    serve.restart(&second, &options);
    chosen(&page, "second");
    assert!(
        page.text("document.getElementById('notice').textContent")
            .starts_with("first is no longer on the box. second answers instead."),
    );
    page.ask("Has a snake legs?");
    assert_eq!(page.answer_when("done"), "No");
}

#[test]
fn a_question_for_a_model_that_has_gone_goes_once_more_to_the_only_one_left() {
    let folder = tempfile::tempdir().unwrap();
    says(folder.path(), "left", "Yes");
    let gone = says(folder.path(), "other", "No");
    let serve = Serve::start(folder.path(), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    page.choose("other");
    std::fs::remove_file(gone).unwrap();
    page.ask("Has a spider legs?");
    assert_eq!(page.answer_when("done"), "Yes");
    assert_eq!(page.model(), "left");
}

#[test]
fn where_a_model_has_gone_and_several_are_left_the_person_chooses() {
    let folder = tempfile::tempdir().unwrap();
    says(folder.path(), "a", "Yes");
    says(folder.path(), "b", "No");
    let gone = says(folder.path(), "c", "Hello");
    let serve = Serve::start(folder.path(), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    page.choose("c");
    std::fs::remove_file(gone).unwrap();
    page.ask("Has a spider legs?");
    page.answer_when("error");
    assert_eq!(
        page.of_last_answer(".failure"),
        "there is no model \"c\" here; there is a, b"
    );
    // What is offered now is what is there.
    chosen(&page, "a");
    page.choose("b");
    page.browser.click("button.retry");
    assert_eq!(page.answer_when("done"), "No");
}

#[test]
fn the_chosen_model_answers_also_after_somebody_else_asked_another() {
    let folder = tempfile::tempdir().unwrap();
    says(folder.path(), "no", "No");
    says(folder.path(), "yes", "Yes");
    let serve = Serve::start(folder.path(), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    assert_eq!(page.model(), "no", "the one that is loaded");
    page.choose("yes");
    page.ask("Has a spider legs?");
    assert_eq!(page.answer_when("done"), "Yes");
    // What the page learns of who is loaded, from now on.
    page.browser.run(
        "window.loaded = []; const real = window.fetch; \
         window.fetch = async (path, ...more) => { \
           const answer = await real(path, ...more); \
           if (path === '/v1/models') loaded.push((await answer.clone().json()).data.find(m => m.loaded)?.id); \
           return answer; \
         }",
    );
    let other = json!({"model": "no", "messages": [{"role": "user", "content": "Has it?"}]});
    assert_eq!(serve.chat(&other).status, 200);
    until("the page has seen the exchange", || {
        page.holds("loaded.at(-1) === 'no'")
    });
    assert_eq!(page.model(), "yes");
    page.ask("Once more: has it?");
    assert_eq!(page.answer_when("done"), "Yes");
}
