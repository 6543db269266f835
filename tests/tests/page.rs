//! The page as a person meets it, in Chromium.

use cloister_tests::browser::Browser;
use cloister_tests::parts::{cached, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

const LAST_STATE: &str = "const all = document.querySelectorAll('[data-role=\"assistant\"]'); return all.length ? all[all.length - 1].dataset.state : null";
/// Presses the stop button if there is something to stop, and tells whether there was.
const STOP_IF_SHOWN: &str = "const stop = document.querySelector('button#stop'); if (!stop || !stop.offsetParent) return false; stop.click(); return true";
const LAST_ANSWER: &str = "const all = document.querySelectorAll('[data-role=\"assistant\"] .answer'); return all.length ? all[all.length - 1].textContent.trim() : ''";

/// Asks and presses stop while the answer comes. A model this small may end it before; then it is
/// asked again.
fn stop_on_its_way(browser: &Browser) {
    until("an answer is stopped on its way", || {
        ask(browser, "Count from one to ten thousand, every number.");
        until("the first words are there, or the end", || {
            let said = browser.run(LAST_ANSWER);
            (said.as_str().is_some_and(|text| !text.is_empty())).then_some(())
        });
        (browser.run(STOP_IF_SHOWN) == json!(true)).then_some(())
    });
}

/// The page, once it knows its model.
fn opened(serve: &Serve) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("{}/", serve.url));
    until("the page knows its model", || {
        browser
            .run("return !document.querySelector('select#model').disabled")
            .as_bool()
            .filter(|known| *known)
    });
    browser
}

fn ask(browser: &Browser, question: &str) {
    browser.type_into("textarea#prompt", question);
    browser.click("button#send");
}

/// The text of the last answer, once it has this state.
fn answer_when(browser: &Browser, state: &str) -> String {
    until(&format!("the answer is {state}"), || {
        (browser.run(LAST_STATE) == state).then_some(())
    });
    browser
        .run(LAST_ANSWER)
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The last answer, once it is whole. A small model may go on for as long as its context lasts; then it
/// is stopped after some lines.
fn answer_at_rest(browser: &Browser) {
    until("the answer is at rest", || {
        let long = browser
            .run(LAST_ANSWER)
            .as_str()
            .is_some_and(|text| text.len() > 400);
        if long {
            browser.run(STOP_IF_SHOWN);
        }
        let state = browser.run(LAST_STATE);
        (state == "done" || state == "stopped").then_some(())
    });
}

#[test]
fn a_question_is_typed_and_the_answer_streams_in() {
    let serve = Serve::start(&smollm2(), &[]);
    let browser = opened(&serve);
    ask(&browser, "Write a long story about a garden.");
    let early = until("the first words are there", || {
        let text = browser
            .run(LAST_ANSWER)
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(
        browser.run(LAST_STATE),
        "streaming",
        "the answer came in one piece: {early}"
    );
    let later = until("more words are there", || {
        let text = browser
            .run(LAST_ANSWER)
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (text.len() > early.len()).then_some(text)
    });
    assert!(later.len() > early.len());
    if browser.run(STOP_IF_SHOWN) != json!(true) {
        stop_on_its_way(&browser);
    }
    answer_when(&browser, "stopped");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn enter_sends_and_a_short_answer_ends_by_itself() {
    let serve = Serve::start(&smollm2(), &[]);
    let browser = opened(&serve);
    // U+E007 is the Enter key in WebDriver.
    browser.type_into("textarea#prompt", "What is the capital of France?\u{e007}");
    let answer = answer_when(&browser, "done");
    assert!(answer.len() > 3, "{answer}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn stop_keeps_what_was_said_and_frees_the_slot() {
    let serve = Serve::start(&smollm2(), &[]);
    let browser = opened(&serve);
    stop_on_its_way(&browser);
    let kept = answer_when(&browser, "stopped");
    assert!(!kept.is_empty());
    until("the slot is free", || {
        (serve.metric("slots_busy") == 0.0).then_some(())
    });
    until("the cancel is counted", || {
        (serve.metric("requests_cancelled_total") == 1.0).then_some(())
    });
}

#[test]
fn no_request_goes_to_another_host_and_the_page_is_small() {
    let serve = Serve::start(&smollm2(), &[]);
    let browser = opened(&serve);
    let loaded = browser.requests();
    assert!(loaded.len() > 2, "{loaded:?}");
    let bytes: u64 = loaded.iter().map(|request| request.bytes).sum();
    assert!(bytes > 1_000, "the bytes of {loaded:?} were not counted");
    assert!(bytes < 250 * 1024, "the page is {bytes} bytes: {loaded:?}");
    ask(
        &browser,
        "Write `code`, **bold** and $x^2$. ![picture](http://192.0.2.1/picture.png)",
    );
    answer_at_rest(&browser);
    for request in loaded.iter().chain(&browser.requests()) {
        let own = request.url.starts_with(&format!("{}/", serve.url));
        let inside = request.url.starts_with("data:") || request.url.starts_with("blob:");
        assert!(own || inside, "the page asked {}", request.url);
    }
    let elsewhere = browser.run("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin + '/'))");
    assert_eq!(elsewhere, json!([]));
}

#[test]
fn every_file_comes_with_the_strict_policy() {
    let serve = Serve::start(&smollm2(), &[]);
    let browser = opened(&serve);
    let mut files: Vec<String> = browser
        .requests()
        .into_iter()
        .map(|request| request.url)
        .collect();
    files.retain(|url| {
        url.starts_with(&format!("{}/", serve.url))
            && !["/v1/", "/api/", "/health"]
                .iter()
                .any(|api| url.contains(api))
    });
    assert!(files.len() > 2, "{files:?}");
    for url in files {
        let answer = serve
            .http
            .get(&url, &[("accept", "text/html,*/*")])
            .unwrap();
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(
            answer.header("content-security-policy"),
            Some(
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                 form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "{url}"
        );
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{url}"
        );
    }
}

#[test]
fn axe_finds_nothing_to_complain_about_on_a_phone_and_on_a_desk() {
    let axe = std::fs::read_to_string(cached("axe-core-4.14.1.min.js")).unwrap();
    let serve = Serve::start(&smollm2(), &[]);
    let browser = opened(&serve);
    let violations = |what: &str| {
        browser.run(&format!("{axe}; return typeof axe"));
        let found = browser.run_async(
            "const done = arguments[arguments.length - 1]; axe.run(document).then(r => done({passes: r.passes.length, \
             violations: r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).join(', '))}), \
             error => done({error: String(error)}))",
        );
        assert!(
            found["passes"].as_u64().is_some_and(|passes| passes > 10),
            "axe did not run: {found}"
        );
        assert_eq!(found["violations"], json!([]), "{what}");
    };
    for (width, height) in [(360, 740), (1280, 800)] {
        browser.resize(width, height);
        violations(&format!("empty at {width} px"));
    }
    browser.resize(1280, 800);
    ask(&browser, "Write a short Python function in a code block.");
    answer_at_rest(&browser);
    for (width, height) in [(360, 740), (1280, 800)] {
        for theme in ["light", "dark"] {
            browser.resize(width, height);
            browser.devtools(
                "Emulation.setEmulatedMedia",
                &json!({"features": [{"name": "prefers-color-scheme", "value": theme}]}),
            );
            violations(&format!("{theme} at {width} px with an answer"));
            let wide: Value =
                browser.run("return document.documentElement.scrollWidth > window.innerWidth");
            assert_eq!(
                wide,
                json!(false),
                "the page scrolls sideways at {width} px"
            );
        }
    }
}
