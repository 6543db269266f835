//! `docs/privacy.md` line by line: each names a test that is there, and what no other test holds is held here.

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
            let source = std::fs::read_to_string(repository().join(&file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            let head = format!("fn {name}()");
            let at = source
                .find(&head)
                .unwrap_or_else(|| panic!("{file} has no {name}"));
            let attributes = source[..at].rsplit("\n}\n").next().unwrap();
            assert!(attributes.contains("test]"), "{file}: {name} is no test");
            // What takes minutes is left out but where all is asked for, as it is of each change.
            assert!(
                !attributes.contains("#[ignore") || all_are_run(),
                "{file}: nothing runs {name}"
            );
        }
        lines += 1;
    }
    assert!(lines > 15, "{lines} lines were read");
}

#[test]
fn from_where_and_with_what_one_asks_is_in_no_file_and_no_log() {
    // An address of loopback that nothing else here has, and words that stand in headers alone.
    const ADDRESS: &str = "127.83.19.7";
    const WORDS: [&str; 5] = [
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
    let answer = ask(
        "/v1/chat/completions",
        Some(&question("Hello?", 4).to_string()),
    );
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

#[test]
fn the_page_has_no_field_for_who_one_is_and_asks_the_browser_for_nothing_about_it() {
    // Fields of people, and what browsers tell about devices, their owners and what is heard or seen.
    const NOT: [&str; 26] = [
        "type=\"email\"",
        "type=\"tel\"",
        "type=\"password\"",
        "type=\"date\"",
        "type=\"file\"",
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
        "getContext(",
    ];
    // What the box itself is made of, which its owner brings: models, updates, settings.
    const OWNERS_FILES: &str = r#"type="file" accept=".gguf,.raucb,.txt""#;
    let files = files_below(&repository().join("runtime/page/assets"));
    let mut bytes = 0;
    for file in files {
        let mut text = std::fs::read_to_string(&file).unwrap();
        bytes += text.len();
        if file.ends_with("box.html") {
            assert_eq!(text.matches(OWNERS_FILES).count(), 1);
            text = text.replace(OWNERS_FILES, "");
        }
        for word in NOT {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
    assert!(bytes > 50_000, "{bytes} bytes were read");
    // No path of the API makes an account.
    let api = std::fs::read_to_string(repository().join("runtime/src/serve/openapi.json")).unwrap();
    let api: serde_json::Value = serde_json::from_str(&api).unwrap();
    let all = api["paths"].as_object().unwrap().keys();
    // Beside those by which the owner, and nobody else, brings the box what it is made of.
    let paths: Vec<&String> = all.filter(|path| !path.starts_with("/api/box/")).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for word in [
        "account", "register", "signup", "login", "user", "profile", "file", "audio", "image",
        "upload",
    ] {
        assert!(paths.iter().all(|path| !path.contains(word)), "{paths:?}");
    }
}
