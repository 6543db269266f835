//! The owner's files for a box that was made from an image, and what such a box has to tell: `serve`'s part of it.

use std::fs;
use std::path::Path;

use cloister_tests::browser::Browser;
use cloister_tests::http::{Answer, Http, put_over_unix};
use cloister_tests::parts::smollm2;
use cloister_tests::process::until;
use cloister_tests::raw::{Raw, exchange};
use cloister_tests::serve::Serve;
use serde_json::Value;

/// PUT of a file, as `key`.
fn bring(place: &str, name: &str, key: &str, bytes: &[u8]) -> String {
    let head = format!(
        "PUT /api/box/files/{name} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    exchange(place, [head.as_bytes(), bytes].concat())
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_owner_brings_files_whole_or_not_at_all_and_nobody_else_does() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let key = |name, scope| {
        let key = serve.command(&["keys", "add", name, "--scope", scope]);
        key.trim().to_owned()
    };
    let (ask, admin) = (key("a", "ask"), key("b", "admin"));
    let inbox = serve.state().join("inbox");
    let bring = |name, key: &str, bytes: &[u8]| bring(&open, name, key, bytes);
    let refused = |said: String, status: &str, why: &str| {
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.contains(why), "{said}");
    };
    refused(bring("a.gguf", &admin, b"x"), "404", "takes no files");
    fs::create_dir(&inbox).unwrap();
    refused(bring("a.gguf", "none", b"x"), "401", "not known");
    refused(bring("a.gguf", &ask, b"x"), "403", "admin");
    for name in ["a.sh", "..%2fa.gguf", ".gguf", "a%20b.gguf", "a%0a.raucb"] {
        refused(bring(name, &admin, b"x"), "400", "a file is a model");
    }
    refused(
        bring("cloister.txt", &admin, &[b'#'; 70_000]),
        "413",
        "larger",
    );
    let without = put_over_unix(&serve.socket(), "/api/box/files/a.gguf", "x");
    // Who runs these tests as root is the owner.
    assert!(
        without.contains(" 202 ") || without.contains(" 403 "),
        "{without}"
    );
    let _ = fs::remove_file(inbox.join("a.gguf"));

    // More than the gate takes of anything else.
    let large: Vec<u8> = (0..40 << 20).map(|n: u32| (n >> 3) as u8).collect();
    refused(bring("large.gguf", &admin, &large), "202", "large.gguf");
    assert_eq!(fs::read(inbox.join("large.gguf")).unwrap(), large);
    refused(
        bring("cloister.txt", &admin, b"hostname = attic\n"),
        "202",
        "17",
    );
    assert_eq!(names(&inbox).len(), 2);

    // One that breaks off.
    let mut half = Raw::to(&open);
    half.send(format!(
        "PUT /api/box/files/half.raucb HTTP/1.1\r\nHost: {open}\r\nAuthorization: Bearer {admin}\r\nContent-Length: 1000\r\n\r\nhalf"
    ));
    let arriving = serve.state().join("arriving");
    until("it begins to arrive", || arriving.exists().then_some(()));
    refused(
        bring("b.gguf", &admin, b"x"),
        "400",
        "another file is on its way",
    );
    drop(half);
    until("it is gone", || (!arriving.exists()).then_some(()));
    assert_eq!(names(&inbox).len(), 2);
    // A petabyte.
    let mut vast = Raw::to(&open);
    vast.send(format!(
        "PUT /api/box/files/vast.gguf HTTP/1.1\r\nHost: {open}\r\nAuthorization: Bearer {admin}\r\nContent-Length: 1000000000000000\r\n\r\n"
    ));
    assert!(vast.line().contains(" 413 "));
    // It answers as before.
    let models: Answer = Http::default()
        .get(
            &format!("http://{open}/v1/models"),
            &[("authorization", &format!("Bearer {ask}"))],
        )
        .unwrap();
    assert_eq!(models.status, 200);
}

#[test]
fn a_file_that_a_revoked_key_was_bringing_does_not_come() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let inbox = serve.state().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let key = serve.command(&["keys", "add", "b", "--scope", "admin"]);
    let mut bringing = Raw::to(&open);
    bringing.send(format!(
        "PUT /api/box/files/evil.gguf HTTP/1.1\r\nHost: {open}\r\nAuthorization: Bearer {}\r\nContent-Length: 10\r\n\r\nhalf",
        key.trim()
    ));
    let arriving = serve.state().join("arriving");
    until("it begins to arrive", || arriving.exists().then_some(()));
    serve.command(&["keys", "revoke", "b"]);
    let said = bringing.line();
    assert!(said.contains(" 401 "), "{said}");
    bringing.send("whole.");
    assert!(!arriving.exists() && names(&inbox).is_empty());
}

#[test]
fn what_the_system_has_to_tell_is_in_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    fs::write(&file, "the clock says 1970\n").unwrap();
    let notices = file.to_str().unwrap();
    let serve = Serve::start(&smollm2(), &["--ctx", "256", "--notices", notices]);
    let mut events = serve.http.events(&format!("{}/api/events", serve.url));
    let mut told = || -> Value {
        let event: Value = serde_json::from_str(&events.next().unwrap()).unwrap();
        event["notices"].clone()
    };
    assert_eq!(told(), serde_json::json!(["the clock says 1970"]));
    // As an editor does, a new file in its place; and more of it than anybody reads.
    let new = folder.path().join("new");
    fs::write(
        &new,
        (0..30).map(|n| format!("line {n}\n")).collect::<String>(),
    )
    .unwrap();
    fs::rename(new, &file).unwrap();
    let lines = told();
    assert_eq!(lines.as_array().unwrap().len(), 20);
    assert_eq!(lines[19], "line 29");

    let inbox = serve.state().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let settings = folder.path().join("cloister.txt");
    fs::write(&settings, "hostname = attic\n").unwrap();
    let browser = Browser::start();
    browser.open(&format!("{}/", serve.url));
    let text = |selector: &str| {
        let text = browser.run(&format!(
            "return document.querySelector('{selector}').textContent"
        ));
        text.as_str().unwrap().to_owned()
    };
    until("the page says that there is something to read", || {
        (text("#box") == "This box: 20 to read").then_some(())
    });
    browser.open(&format!("{}/box", serve.url));
    until("and it is there", || {
        text("#notices").contains("line 29").then_some(())
    });
    browser.type_into("#file", settings.to_str().unwrap());
    browser.click("#send-file");
    until("the owner brings a file by it", || {
        text("#said").contains("is on the box").then_some(())
    });
    assert_eq!(
        fs::read_to_string(inbox.join("cloister.txt")).unwrap(),
        "hostname = attic\n"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
