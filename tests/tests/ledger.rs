//! `docs/privacy.md` line by line: each names a test that is there, and what no other test holds is held here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cloister_tests::page::Page;
use cloister_tests::parts::smollm2;
use cloister_tests::process::until;
use cloister_tests::serve::{Serve, question};
use cloister_tests::traces::{files_below, holds};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The tests that a cell of the ledger names: after each file in backticks those of its functions.
fn tests_named(cell: &str) -> Vec<(String, String)> {
    let mut file = String::new();
    let mut named = Vec::new();
    for word in cell.split('`').skip(1).step_by(2) {
        match word.ends_with(".rs") {
            true => file = word.to_owned(),
            false => named.push((file.clone(), word.to_owned())),
        }
    }
    named
}

/// Whether what must pass before a change is taken leaves out no test.
fn all_are_run() -> bool {
    let text = |file: &str| std::fs::read_to_string(repository().join(file)).unwrap();
    let calls = |file: &str, words: &[&str]| {
        let text = text(file);
        let mut lines = text.lines().map(str::trim);
        lines.any(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)))
    };
    calls(".ci/run", &["tests/run", "--all"])
        && calls(
            "tests/run",
            &["cargo test", "--workspace", "-- --include-ignored"],
        )
}

#[test]
fn every_line_of_the_ledger_names_a_test_that_is_there() {
    let text = std::fs::read_to_string(repository().join("docs/privacy.md")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let mut lines = 0;
    for row in rows {
        let test = row
            .trim_end_matches([' ', '|'])
            .rsplit(" | ")
            .next()
            .unwrap();
        if test == "test" {
            continue;
        }
        let named = tests_named(test);
        assert!(!named.is_empty(), "no test: {row}");
        for (file, name) in named {
            is_run(&file, &name);
        }
        lines += 1;
    }
    assert!(lines > 15, "{lines} lines were read");
    // What stands between the tables names tests, too, by their sentences.
    let prose = text.split("\n\n").filter(|part| !part.starts_with('|'));
    let named = prose.flat_map(tests_named);
    let named = named.filter(|(file, name)| !file.is_empty() && name.matches('_').count() > 2);
    let named: Vec<_> = named.collect();
    assert!(named.len() > 8, "{named:?}");
    for (file, name) in named {
        is_run(&file, &name);
    }
}

/// Fails unless this file has a test of this name, and something runs it.
fn is_run(file: &str, name: &str) {
    let source = std::fs::read_to_string(repository().join(file));
    let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
    let head = format!("fn {name}()");
    let at = source
        .find(&head)
        .unwrap_or_else(|| panic!("{file} has no {name}"));
    let attributes = source[..at].rsplit("\n}\n").next().unwrap();
    // As `#[tokio::test(start_paused = true)]` ends.
    let is_test = ["test]", "test("]
        .iter()
        .any(|word| attributes.contains(word));
    assert!(is_test, "{file}: {name} is no test");
    // What takes minutes is left out but where all is asked for, as it is of each change.
    assert!(
        !attributes.contains("#[ignore") || all_are_run(),
        "{file}: nothing runs {name}"
    );
}

#[test]
fn from_where_and_with_what_one_asks_is_in_no_file_and_no_log() {
    // An address of loopback that nothing else here has, and words that stand in headers alone.
    const ADDRESS: &str = "127.83.19.7";
    const WORDS: [&str; 6] = [
        "quuxuser",
        "Quuxbrowser",
        "x-quuxish",
        "quuxcookie",
        "quuxreferer",
        "quuxheader",
    ];
    let serve = Serve::start_at_home();
    let ask = |path: &str, body: Option<&str>| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--interface", ADDRESS]);
        curl.args(["--user-agent", "Quuxbrowser/1.0 (QuuxOS; Quuxphone)"]);
        curl.args(["--header", "Accept-Language: x-quuxish"]);
        curl.args(["--header", "Cookie: quuxcookie=1"]);
        curl.args(["--header", "Referer: http://127.0.0.1/quuxreferer"]);
        curl.args(["--header", "X-Client-Address: quuxheader"]);
        if let Some(body) = body {
            curl.args(["--header", "Content-Type: application/json", "--data", body]);
        }
        let output = curl
            .arg(format!("{}{path}", serve.url))
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut about = question("Hello?", 4);
    for field in ["user", "safety_identifier", "prompt_cache_key"] {
        about[field] = "quuxuser".into();
    }
    about["metadata"] = serde_json::json!({"name": "quuxuser"});
    let answer = ask("/v1/chat/completions", Some(&about.to_string()));
    assert!(answer.contains("chat.completion"), "{answer}");
    ask("/v1/chat/completions", Some("no JSON"));
    ask("/nothing", None);
    ask("/", None);
    let told = ask("/metrics", None);
    assert!(told.contains("cloister_requests"), "{told}");
    let searched = serve.left();
    for word in WORDS.into_iter().chain([ADDRESS]) {
        assert!(!told.contains(word), "{word} in {told}");
        for file in &searched {
            assert!(!holds(file, word), "{} holds {word}", file.display());
        }
    }
}

#[test]
fn nothing_that_is_typed_leaves_the_browser_before_it_is_sent() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.browser.requests();
    let text = "What somebody thinks better of, key by key, before anybody has read it.";
    page.browser.type_into("textarea#prompt", text);
    assert_eq!(page.text("document.getElementById('prompt').value"), text);
    let made = page.browser.requests();
    // Of the box's state the page hears all the time; such a request carries nothing.
    let of_typing: Vec<_> = made
        .iter()
        .filter(|request| !request.url.ends_with("/api/events"))
        .collect();
    assert!(of_typing.is_empty(), "{of_typing:?}");
    // A request would have been seen: the one that sends.
    page.browser.click("button#send");
    let asked =
        |request: &cloister_tests::browser::Request| request.url.ends_with("/v1/chat/completions");
    until("the request is seen", || {
        page.browser.requests().iter().any(asked).then_some(())
    });
}

#[test]
fn nobody_on_this_machine_gets_a_cookie() {
    let serve = Serve::start(&smollm2(), &[]);
    let page = Page::open(&serve);
    page.stop_on_its_way();
    assert_eq!(page.text("document.cookie"), "");
    let cookies = page
        .browser
        .devtools("Network.getAllCookies", &serde_json::json!({}));
    assert_eq!(cookies["cookies"], serde_json::json!([]));
    // One that is set is seen there.
    page.browser.run("document.cookie = 'planted=1'");
    let cookies = page
        .browser
        .devtools("Network.getAllCookies", &serde_json::json!({}));
    assert_eq!(cookies["cookies"][0]["name"], "planted");
}

/// All places of the pages where somebody can type or choose something: what they ask, how it is to be answered, the code
/// that the owner reads out, what the owner calls a browser by, and what the box is made of, which its owner brings.
const FIELDS_OF_PAGES: [&str; 9] = [
    r#"box.html: <input id="file" type="file" accept=".gguf,.raucb,.txt" required>"#,
    r#"index.html: <input id="max-tokens" type="number" min="1" max="1000000" step="1" inputmode="numeric" placeholder="no limit">"#,
    r#"index.html: <input id="temperature" type="number" min="0" max="2" step="0.05" inputmode="decimal" placeholder="the model’s own">"#,
    r#"index.html: <select id="model" disabled>"#,
    r#"index.html: <textarea id="prompt" rows="1" placeholder="Ask the box" aria-describedby="keys" enterkeyhint="send">"#,
    r#"index.html: <textarea id="system" rows="4" aria-describedby="system-note">"#,
    r#"pair.html: <input id="code" inputmode="numeric" autocomplete="one-time-code" maxlength="12" required placeholder="1234 5678">"#,
    r#"pair.html: <input id="name" maxlength="64" value="browser" required>"#,
    r#"thread.js: element("textarea""#,
];

/// All paths of the API.
const PATHS: &str = "/api/box/files/{name} /api/chat /api/embed /api/embeddings /api/events /api/generate /api/panel
    /api/panel/door /api/panel/pair /api/panel/stop /api/panel/test /api/privacy /api/privacy/erase /api/privacy/report
    /api/ps /api/pull /api/render /api/show /api/tags /api/version /health /metrics /openapi.json /pair
    /v1/chat/completions /v1/embeddings /v1/models /v1/models/{id} /v1/responses";

/// All fields of requests that are about what is asked, how it is to be answered, and what the owner decides.
const FIELDS: &str = "background board cache cache_prompt chat_template_kwargs code context deadline_ms dimensions
    encoding_format format frequency_penalty grammar ignore_eos include input insecure instructions keep_alive logit_bias
    logprobs max_completion_tokens max_output_tokens max_tokens max_tool_calls messages min_p model n name options
    parallel_tool_calls presence_penalty private prompt prompt_cache_retention raw reasoning reasoning_effort repeat_penalty
    response_format return_progress seed service_tier shift speculative.n_max stop stream stream_options suffix system
    temperature template text think thinking_budget_tokens throttle timings_per_token tool_choice tools top_k top_logprobs
    top_p truncate truncation verbose";

/// Those by which clients of other services tell more, and what becomes of them: nothing else may be said of one.
const REFUSED: &str = "images modalities";
/// `username` and `password` are those of a registry, which `/api/pull` never asks.
const PASSED_OVER: &str =
    "metadata password prompt_cache_key safety_identifier store user username";

#[test]
fn the_page_has_no_field_for_who_one_is_and_asks_the_browser_for_nothing_about_it() {
    // What browsers tell about devices, their owners and what is heard or seen.
    const NOT: [&str; 20] = [
        "autocomplete=\"name\"",
        "autocomplete=\"username\"",
        "getUserMedia",
        "MediaRecorder",
        "SpeechRecognition",
        "geolocation",
        "userAgent",
        "navigator.platform",
        "navigator.plugins",
        "navigator.languages",
        "navigator.language",
        "hardwareConcurrency",
        "deviceMemory",
        "getBattery",
        "enumerateDevices",
        "sendBeacon",
        "WebSocket(",
        "RTCPeerConnection",
        "indexedDB",
        "AudioContext",
    ];
    let mut bytes = 0;
    let mut fields = Vec::new();
    for file in files_below(&repository().join("runtime/page/assets")) {
        let text = std::fs::read_to_string(&file).unwrap();
        bytes += text.len();
        let name = file.file_name().unwrap().to_string_lossy();
        for tag in ["input", "textarea", "select"] {
            for (at, _) in text.match_indices(&format!("<{tag}")) {
                let end = at + text[at..].find('>').unwrap();
                fields.push(format!("{name}: {}", &text[at..=end]));
            }
            let made = format!("element(\"{tag}\"");
            fields.extend(text.matches(&made).map(|made| format!("{name}: {made}")));
        }
        for word in NOT
            .into_iter()
            .chain(["contenteditable", "contentEditable"])
        {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
        // Elements are made in one place, by the names that are looked for above.
        let makes = text.matches("createElement").count();
        assert_eq!(makes, usize::from(name == "dom.js"), "{}", file.display());
    }
    assert!(bytes > 50_000, "{bytes} bytes were read");
    fields.sort();
    // The one that copies a text holds nothing that is typed.
    fields.retain(|field| field != "dom.js: element(\"textarea\"");
    assert_eq!(fields, FIELDS_OF_PAGES);
}

#[test]
fn the_api_has_no_path_and_no_field_for_who_one_is() {
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split_whitespace()
    }
    let api = std::fs::read_to_string(repository().join("runtime/src/serve/openapi.json")).unwrap();
    let api: serde_json::Value = serde_json::from_str(&api).unwrap();
    let paths = api["paths"].as_object().unwrap();
    let mut told: Vec<&str> = paths.keys().map(String::as_str).collect();
    told.sort_unstable();
    assert_eq!(told, words(PATHS).collect::<Vec<_>>());
    // That these are all fields, and those of the document all that are taken, `openapi.rs` holds.
    let all = [FIELDS, REFUSED, PASSED_OVER].map(words);
    let known: BTreeSet<&str> = all.into_iter().flatten().collect();
    let mut found = BTreeSet::new();
    for operation in paths
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            found.insert(name.as_str());
            if words(REFUSED).any(|refused| refused == name) {
                let values = field["const"].as_array().expect(name);
                assert!(
                    values.iter().all(|value| value == "text"),
                    "{name}: {field}"
                );
            }
        }
    }
    assert_eq!(found, known);
}
