//! The page as a person meets it, in Chromium.

use cloister_tests::browser::{Request, key};
use cloister_tests::page::Page;
use cloister_tests::parts::{cached, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

/// What a conversation may hold, as the browser keeps it: a thought, code, a table, mathematics, an error,
/// a picture from `elsewhere`.
fn full_conversation(elsewhere: &str) -> Value {
    let answer = |state: &str, content: &str, reasoning: &str, error: Option<&str>| {
        json!({
            "role": "assistant", "state": state, "content": content, "reasoning": reasoning,
            "thoughtMs": if reasoning.is_empty() { None } else { Some(4000) },
            "timings": {"predicted_n": 90, "predicted_per_second": 20.5},
            "finish": "stop", "error": error, "tooLong": false,
        })
    };
    let rich = format!(
        "## Roots\n\nBy the formula, with `a`, **b** and a [link](#a):\n\n\\[ x = \\frac{{-b \\pm \\sqrt{{b^2 - 4ac}}}}{{2a}} \\]\n\n\
         Inline \\(x^2\\) too.\n\n```python\ndef f(x):  # a comment\n    return \"text\", 1 + x\n```\n\n\
         | n | square |\n|--:|:--:|\n| 1 | 1 |\n| 2 | 4 |\n\n> Said.\n\n- one\n- two\n\n---\n\n\
         ![picture]({elsewhere}/1.png) <img src=\"{elsewhere}/2.png\"> <script src=\"{elsewhere}/3.js\"></script>"
    );
    json!([
        {"role": "user", "content": "What are the roots?"},
        answer("done", &rich, "The user wants **roots**.\n\n\\(x\\) it is.", None),
        {"role": "user", "content": "And then?"},
        answer("error", "", "", Some("The box does not answer.")),
        {"role": "user", "content": "Once more?"},
        answer("stopped", "Well, it", "", None),
    ])
}

/// A server of another origin: its URL, and whether anybody has come to it.
struct Elsewhere {
    listener: std::net::TcpListener,
    url: String,
}

impl Elsewhere {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    fn was_asked(&self) -> bool {
        self.listener.accept().is_ok()
    }
}

#[test]
fn a_question_is_typed_and_the_answer_streams_in() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.ask("Write a long story about a garden.");
    // Three different lengths, each seen while the answer was on its way.
    let mut seen: Vec<usize> = Vec::new();
    until("the answer grew three times", || {
        let [state, text] = [page.state(), page.answer()];
        assert_ne!(state, "error", "{}", page.of_last_answer(".failure"));
        assert_eq!(
            page.state(),
            "streaming",
            "it came in pieces of {seen:?}: {text}"
        );
        if text.len() > seen.last().copied().unwrap_or(0) {
            seen.push(text.len());
        }
        (seen.len() == 3).then_some(())
    });
    assert!(page.stop());
    page.answer_when("stopped");
    assert_eq!(page.browser.complaints(), Vec::<String>::new());
}

#[test]
fn enter_sends_and_the_answer_comes_to_its_end() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.set(&json!({"maxTokens": 40}));
    let question = format!("What is the capital of France?{}", key::ENTER);
    page.browser.type_into("textarea#prompt", &question);
    page.answer_when("done");
    // The last words are shown once the box has rendered them.
    until("all of the answer is shown", || {
        (page.answer().len() > 3).then_some(())
    });
    assert_eq!(page.browser.complaints(), Vec::<String>::new());
}

#[test]
fn stop_keeps_what_was_said_shows_its_speed_and_frees_the_slot() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.stop_on_its_way();
    let kept = page.answer_when("stopped");
    assert!(!kept.is_empty());
    let meta = page.of_last_answer(".meta");
    assert!(
        meta.starts_with("stopped · about ") && meta.ends_with(" tokens/s"),
        "{meta}"
    );
    until("the slot is free", || {
        (serve.metric("slots_busy") == 0.0).then_some(())
    });
    until("the cancel is counted", || {
        (serve.metric("requests_cancelled_total") == 1.0).then_some(())
    });
}

#[test]
fn no_request_goes_to_another_host_and_the_page_is_small() {
    let elsewhere = Elsewhere::new();
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    let loaded = page.browser.requests();
    let bytes: u64 = loaded.iter().map(|request| request.bytes).sum();
    assert!(bytes > 1_000, "the bytes of {loaded:?} were not counted");
    assert!(bytes < 250 * 1024, "the page is {bytes} bytes: {loaded:?}");

    page.stop_on_its_way();
    page.answer_when("stopped");
    let asked = page.browser.requests();
    page.keep(&full_conversation(&elsewhere.url));
    until("the kept conversation is rendered", || {
        page.holds("document.querySelector('.answer table')")
    });
    let kept = page.browser.requests();
    for path in ["/", "/app.js", "/v1/models"] {
        let seen = |list: &[Request]| list.iter().any(|r| r.url == format!("{}{path}", serve.url));
        assert!(seen(&loaded) && seen(&kept), "{path} was not seen");
    }
    for path in ["/v1/chat/completions", "/api/render"] {
        let seen = asked
            .iter()
            .any(|r| r.url == format!("{}{path}", serve.url));
        assert!(seen, "{path} was not seen in {asked:?}");
    }
    for request in loaded.iter().chain(&asked).chain(&kept) {
        let own = request.url.starts_with(&format!("{}/", serve.url));
        let inside = request.url.starts_with("data:") || request.url.starts_with("blob:");
        assert!(own || inside, "the page asked {}", request.url);
    }
    // Even a script that got in would be refused.
    let refused = page.browser.run_async(&format!(
        "const done = arguments[arguments.length - 1]; fetch('{}/').then(() => done(false), () => done(true))",
        elsewhere.url
    ));
    assert_eq!(refused, json!(true));
    assert!(!elsewhere.was_asked(), "a request went elsewhere");

    // That such a request would have been seen, in the browser's log and at the other end.
    let picture = format!("data:text/html,<img src='{}/1.png'>", elsewhere.url);
    page.browser.open(&picture);
    until("the other end is asked", || {
        elsewhere.was_asked().then_some(())
    });
    let control = page.browser.requests();
    assert!(
        control
            .iter()
            .any(|request| request.url == format!("{}/1.png", elsewhere.url)),
        "{control:?}"
    );
}

#[test]
fn every_file_comes_with_the_strict_policy() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    let mut files: Vec<String> = page
        .browser
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
        assert_eq!(
            answer.header("x-dns-prefetch-control"),
            Some("off"),
            "{url}"
        );
        let says_so = "<meta http-equiv=\"x-dns-prefetch-control\" content=\"off\">";
        let is_page = answer.body.starts_with("<!doctype html>");
        assert_eq!(answer.body.contains(says_so), is_page, "{url}");
    }
}

#[test]
fn the_prompt_stands_below_the_text_whether_it_scrolls_or_not() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    let edges = |selector: &str| {
        let edges = page.browser.run(&format!(
            "const {{left, right}} = document.querySelector('{selector}').getBoundingClientRect(); return [left, right]"
        ));
        serde_json::from_value::<[f64; 2]>(edges).unwrap()
    };
    for width in [360, 700, 1280] {
        page.browser.resize(width, 500);
        page.keep(&json!([{"role": "user", "content": "Short?"}]));
        let short = edges(".question");
        page.keep(&json!([{"role": "user", "content": "Long?\n".repeat(60)}]));
        until("it scrolls", || {
            page.holds("document.getElementById('thread').scrollTop > 0")
        });
        assert_eq!(edges(".question"), short, "at {width} px");
        assert_eq!(edges(".desk"), short, "at {width} px");
    }
}

#[test]
fn axe_finds_nothing_to_complain_about_on_a_phone_and_on_a_desk_by_day_and_by_night() {
    let axe = std::fs::read_to_string(cached("axe-core-4.14.1.min.js")).unwrap();
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    let browser = &page.browser;
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
    let looks = |what: &str| {
        for (width, height) in [(360, 740), (1280, 800)] {
            for theme in ["light", "dark"] {
                browser.resize(width, height);
                browser.devtools(
                    "Emulation.setEmulatedMedia",
                    &json!({"features": [
                        {"name": "prefers-color-scheme", "value": theme},
                        // axe looks at colours, which must not be on their way to others.
                        {"name": "prefers-reduced-motion", "value": "reduce"},
                    ]}),
                );
                let dark = browser.run("return getComputedStyle(document.body).colorScheme");
                assert_eq!(dark, theme);
                violations(&format!("{what}: {theme} at {width} px"));
                let wide: Value =
                    browser.run("return document.documentElement.scrollWidth > window.innerWidth");
                assert_eq!(
                    wide,
                    json!(false),
                    "{what}: the page scrolls sideways at {width} px"
                );
            }
        }
    };
    looks("empty");

    browser.open(&format!("{}/pair", serve.url));
    looks("where a browser is let in");
    browser.open(&format!("{}/", serve.url));

    page.keep(&full_conversation("http://192.0.2.1"));
    browser.run("document.querySelector('details.reasoning').open = true");
    for part in [
        ".thoughts math",
        ".answer pre .c-key",
        ".answer table",
        ".answer math mfrac",
        ".failure",
        ".meta",
    ] {
        until(part, || {
            page.holds(&format!("document.querySelector('{part}')"))
        });
    }
    looks("a full conversation");

    browser.run("document.querySelector('button.edit').click()");
    looks("a question that is edited");
    browser.run("document.querySelector('button.cancel-edit').click()");
    browser.run("document.getElementById('open-settings').click()");
    looks("settings");
    browser.run("document.getElementById('close-settings').click()");
    browser.resize(360, 740);
    browser.click("button#open-shelf");
    violations("the list of conversations on a phone");
    browser.run("document.getElementById('veil').click()");

    page.ask("Write a short Python function in a code block.");
    until("the answer streams", || {
        (!page.answer().is_empty()).then_some(())
    });
    violations("while an answer streams");
    page.stop();
}
