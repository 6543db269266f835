//! The owner's files for a box that was made from an image, and what such a box has to tell: `serve`'s part of it.

use std::fs;
use std::path::Path;

use cloister_tests::browser::Browser;
use cloister_tests::http::{Answer, Http, delete_over_unix, put_over_unix};
use cloister_tests::parts::{scripted_r1, smollm2, tiny_bert};
use cloister_tests::process::until;
use cloister_tests::raw::{Raw, exchange};
use cloister_tests::serve::Serve;
use serde_json::Value;
use tempfile::TempDir;

/// PUT of a file, as `key`.
fn bring(place: &str, name: &str, key: &str, bytes: &[u8]) -> String {
    let head = format!(
        "PUT /api/box/files/{name} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    exchange(place, [head.as_bytes(), bytes].concat())
}

/// DELETE of a file, as `key`, with these further lines of the head.
fn let_go(place: &str, name: &str, key: &str, more: &str) -> String {
    exchange(
        place,
        format!(
            "DELETE /api/box/files/{name} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n{more}\r\n"
        ),
    )
}

fn is_refused(said: &str, status: &str, why: &str) {
    assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
    assert!(said.contains(why), "{said}");
}

/// A folder with two models that answer, `first` and `second`, one that embeds, and one that is none.
fn models() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first.gguf", "second.gguf"] {
        fs::rename(scripted_r1(folder.path(), &[]), folder.path().join(name)).unwrap();
    }
    tiny_bert(folder.path());
    fs::write(folder.path().join("damaged.gguf"), "no model").unwrap();
    folder
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
    let refused = |said: String, status: &str, why: &str| is_refused(&said, status, why);
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
    // Who runs one model alone was told to.
    let said = let_go(&open, &smollm2_name(), &admin, "");
    refused(said, "400", "take the line model out of cloister.txt");
}

fn smollm2_name() -> String {
    let name = smollm2().file_name().unwrap().to_owned();
    name.into_string().unwrap()
}

#[test]
fn the_owner_has_models_removed_but_for_the_last_that_answers() {
    let folder = models();
    let options = ["--tls", "false", "--ctx", "256"];
    let (serve, open) = Serve::start_open_with(folder.path(), &options);
    let key = |name, scope| {
        let key = serve.command(&["keys", "add", name, "--scope", scope]);
        key.trim().to_owned()
    };
    let (ask, admin) = (key("a", "ask"), key("b", "admin"));
    let inbox = serve.state().join("inbox");
    let refused = |name, key: &str, more, status, why| {
        is_refused(&let_go(&open, name, key, more), status, why);
    };
    refused("second.gguf", &admin, "", "404", "takes no files");
    fs::create_dir(&inbox).unwrap();
    refused("second.gguf", "none", "", "401", "not known");
    refused("second.gguf", &ask, "", "403", "admin");
    let other = "Origin: http://evil.example\r\n";
    refused("second.gguf", &admin, other, "403", "site");
    let other = "Sec-Fetch-Site: cross-site\r\n";
    refused("second.gguf", &admin, other, "403", "site");
    for name in ["a.sh", "..%2fsecond.gguf", ".gguf", "a%20b.gguf", "second"] {
        refused(name, &admin, "", "400", "a file is a model");
    }
    let there = "there is damaged.gguf, first.gguf, second.gguf, tiny-bert.gguf";
    for name in ["third.gguf", "cloister.txt", "second.raucb"] {
        refused(name, &admin, "", "404", there);
    }
    assert_eq!(names(&inbox), Vec::<String>::new());

    refused("second.gguf", &admin, "", "202", "second.gguf");
    assert_eq!(names(&inbox), ["second.gguf.remove"]);
    assert_eq!(fs::read(inbox.join("second.gguf.remove")).unwrap(), b"");
    // What is about to go is none that stays, nor is one that only embeds, nor one that is no model.
    refused("first.gguf", &admin, "", "400", "bring another first");
    for name in ["damaged.gguf", "tiny-bert.gguf", "second.gguf"] {
        refused(name, &admin, "", "202", name);
    }
    assert_eq!(names(&inbox).len(), 3);
    // That is for the system.
    assert_eq!(names(folder.path()).len(), 4);
    fs::remove_dir_all(&inbox).unwrap();
    fs::create_dir(&inbox).unwrap();
    let without = delete_over_unix(&serve.socket(), "/api/box/files/second.gguf");
    // Who runs these tests as root is the owner.
    assert!(
        without.contains(" 202 ") || without.contains(" 403 "),
        "{without}"
    );
}

#[test]
fn the_page_of_the_box_lists_its_models_and_has_one_removed() {
    let folder = models();
    let notices = tempfile::tempdir().unwrap();
    let lines = notices.path().join("lines");
    fs::write(&lines, "").unwrap();
    let options = ["--ctx", "256", "--notices", lines.to_str().unwrap()];
    let serve = Serve::start(folder.path(), &options);
    let inbox = serve.state().join("inbox");
    let browser = Browser::start();
    let text = |selector: &str| {
        let text = browser.run(&format!(
            "return document.querySelector('{selector}').innerText"
        ));
        text.as_str().unwrap().to_owned()
    };
    let remove = |name: &str, yes: bool| {
        browser.run(&format!(
            "window.confirm = (asked) => {{ window.asked = asked; return {yes}; }}"
        ));
        browser.click(&format!("[data-model=\"{name}\"] .remove"));
        browser
            .run("return window.asked")
            .as_str()
            .unwrap()
            .to_owned()
    };
    let said = |what: &str| until(what, || text("#removed").contains(what).then_some(()));
    browser.open(&format!("{}/box", serve.url));
    until("all files are listed", || {
        let listed = text("#models");
        ["damaged", "first", "second", "tiny-bert"]
            .iter()
            .all(|name| listed.contains(name))
            .then_some(())
    });
    assert!(text("[data-model=\"tiny-bert\"]").contains("embeds"));
    assert!(text("[data-model=\"first\"]").contains("loaded"));
    remove("second", true);
    said("takes no files");
    // That was refused, which the browser tells.
    assert_eq!(browser.complaints().len(), 1);
    fs::create_dir(&inbox).unwrap();
    assert!(remove("second", false).contains("second.gguf"));
    assert_eq!(names(&inbox), Vec::<String>::new());
    remove("second", true);
    said("second.gguf is to be removed");
    assert_eq!(names(&inbox), ["second.gguf.remove"]);
    // What the system does then.
    fs::remove_file(inbox.join("second.gguf.remove")).unwrap();
    fs::remove_file(folder.path().join("second.gguf")).unwrap();
    fs::write(&lines, "the model second.gguf was removed\n").unwrap();
    until("it is told, and no longer in the list", || {
        (text("#notices").contains("was removed") && !text("#models").contains("second"))
            .then_some(())
    });
    assert_eq!(browser.complaints(), Vec::<String>::new());
    remove("first", true);
    said("bring another first");
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
