//! The page without a mouse, in Chromium.

use cloister_tests::browser::key;
use cloister_tests::page::Page;
use cloister_tests::parts::scripted_r1;
use cloister_tests::process::until;
use cloister_tests::serve::Serve;

#[test]
fn a_conversation_is_held_with_the_keyboard_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = ["Ċ", "Hmm", "</think>", "Yes", "<｜end▁of▁sentence｜>"];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    let press = |keys: &[char]| page.browser.press(keys);
    let answered = |times: f64, conversation: &[&str]| {
        until("the answer is there", || {
            let finished = serve.metric("requests_finished_total") == times;
            (finished && page.state() == "done" && page.conversation() == conversation)
                .then_some(())
        });
    };

    assert!(page.has_focus("#prompt"), "from the start");
    page.key_in("Has a spider");
    press(&[key::SHIFT, key::ENTER]);
    page.key_in("legs?");
    press(&[key::ENTER]);
    answered(1.0, &["Has a spider\nlegs?", "Yes"]);
    assert!(page.has_focus("#prompt"));

    page.tab_back_to("button.retry");
    press(&[key::ENTER]);
    answered(2.0, &["Has a spider\nlegs?", "Yes"]);
    assert!(page.has_focus("#prompt"), "the button has gone");

    page.tab_back_to("summary");
    press(&[key::ENTER]);
    until("the thought is shown", || {
        (page.of_last_answer(".thoughts") == "Hmm").then_some(())
    });

    page.tab_back_to("button.edit");
    press(&[key::ENTER]);
    assert!(page.has_focus("textarea.editing"));
    press(&[key::ESCAPE]);
    assert!(page.has_focus("button.edit"), "where one was before");
    press(&[key::ENTER]);
    press(&[key::CONTROL, 'a']);
    page.key_in("Has a snake?");
    press(&[key::ENTER]);
    answered(3.0, &["Has a snake?", "Yes"]);
    assert!(page.has_focus("#prompt"));

    page.tab_back_to("#open-settings");
    press(&[key::ENTER]);
    assert!(page.has_focus("dialog[open] *"));
    press(&[key::ESCAPE]);
    assert!(page.has_focus("#open-settings"), "where one was before");

    page.tab_back_to("#new");
    press(&[key::ENTER]);
    assert!(page.conversation().is_empty());
    page.tab_back_to("#conversations .open");
    press(&[key::ENTER]);
    answered(3.0, &["Has a snake?", "Yes"]);

    page.tab_back_to("a.skip");
    press(&[key::ENTER]);
    assert!(page.has_focus("#prompt"));
    assert_eq!(page.browser.complaints(), Vec::<String>::new());
}

#[test]
fn on_a_phone_the_list_opens_and_closes_by_key_and_is_out_of_reach_while_closed() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(&scripted_r1(folder.path(), &[]), &["--ctx", "1024"]);
    let page = Page::open(&serve);
    page.browser.resize(360, 740);
    until("the list is out of reach", || {
        page.holds("document.getElementById('shelf').inert")
    });
    page.tab_back_to("#open-shelf");
    page.browser.press(&[key::ENTER]);
    assert!(page.has_focus("#new"));
    page.browser.press(&[key::ESCAPE]);
    assert!(page.has_focus("#open-shelf"));
    assert!(
        page.holds("document.getElementById('shelf').inert")
            .is_some()
    );
}

#[test]
fn escape_stops_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let script = ["Ċ", "</think>", "Yes", "Ċ"];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "4096"]);
    let page = Page::open(&serve);
    until("an answer is stopped on its way", || {
        page.key_in("Has a spider legs?");
        page.browser.press(&[key::ENTER]);
        until("some of it is there", || {
            (!page.answer().is_empty()).then_some(())
        });
        page.browser.press(&[key::ESCAPE]);
        until("it is at its end", || {
            (page.state() != "streaming").then_some(())
        });
        (page.state() == "stopped").then_some(())
    });
    until("the slot is free", || {
        (serve.metric("slots_busy") == 0.0).then_some(())
    });
}
