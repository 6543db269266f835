//! Who comes from the network gets nothing without a key or a paired browser; who is at the machine itself needs none.

use cloister_tests::browser::Browser;
use cloister_tests::http::{Answer, Http, post_over_unix};
use cloister_tests::page::Page;
use cloister_tests::parts::SMOLLM2;
use cloister_tests::process::until;
use cloister_tests::python;
use cloister_tests::raw::{Raw, exchange};
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// Asks as `key`, a whole value of `Authorization`.
fn ask(http: &Http, open: &str, key: &str) -> u16 {
    let request = question("Hi", 2).to_string();
    let url = format!("http://{open}{CHAT}");
    let answer = http.post_with(&url, &request, &[("authorization", key)]);
    answer.unwrap().status
}

fn pair(open: &str, code: &str) -> Answer {
    let body = json!({"code": code, "name": "phone"}).to_string();
    let url = format!("http://{open}/pair");
    Http::default().post(&url, &body).unwrap()
}

/// The code in what `cloister pair` prints.
fn code(said: &str) -> &str {
    let code = said.lines().next().unwrap();
    assert_eq!(code.len(), 9, "{said}");
    code
}

#[test]
fn each_path_needs_of_the_network_what_openapi_says_and_nothing_of_the_machine_itself() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let http = Http::default();
    let ask_key = format!("Bearer {}", serve.command(&["keys", "add", "a"]).trim());
    let document = serve.get("/openapi.json").json();
    let mut closed = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"]["example"];
            let call = |place: &str, headers: &[(&str, &str)]| {
                let url = format!("http://{place}{}", path.replace("{id}", SMOLLM2));
                match method.as_str() {
                    // An event stream does not end.
                    "get" if path == "/api/events" => {
                        let key = headers.first().map_or("", |(_, key)| key);
                        let head = format!(
                            "GET {path} HTTP/1.1\r\nHost: {place}\r\nAuthorization: {key}\r\n\r\n"
                        );
                        let mut raw = cloister_tests::raw::Raw::to(place);
                        raw.send(head);
                        raw.line().split(' ').nth(1).unwrap().parse().unwrap()
                    }
                    "get" => http.get(&url, headers).unwrap().status,
                    _ => {
                        http.post_with(&url, &body.to_string(), headers)
                            .unwrap()
                            .status
                    }
                }
            };
            let refused = |status: u16| status == 401 || status == 403;
            let own = serve.url.trim_start_matches("http://");
            // Who is at the machine needs a code for the one, and no port leads to the other.
            let elsewhere = path == "/pair" || path.starts_with("/api/panel");
            assert!(elsewhere || !refused(call(own, &[])), "{path}");
            let security = operation["security"].as_array().unwrap();
            if security.is_empty() {
                assert_ne!(call(&open, &[]), 401, "{path}");
                continue;
            }
            closed += 1;
            assert_eq!(call(&open, &[]), 401, "{path}");
            assert_eq!(
                call(&open, &[("authorization", "Bearer none")]),
                401,
                "{path}"
            );
            let scope = &security[1]["key"][0];
            let status = call(&open, &[("authorization", &ask_key)]);
            assert_eq!(refused(status), scope != "ask", "{path}: {status}");
        }
    }
    assert!(closed > 15, "{closed}");
    // What is not in the table, and the page itself.
    assert_eq!(
        http.get(&format!("http://{open}/style.css"), &[])
            .unwrap()
            .status,
        200
    );
    let html = [("accept", "text/html")];
    let page = http.get(&format!("http://{open}/"), &html).unwrap();
    assert_eq!((page.status, page.header("location")), (303, Some("/pair")));
    let over_socket = post_over_unix(&serve.socket(), CHAT, &question("Hi", 2).to_string());
    assert!(over_socket.starts_with("HTTP/1.1 200"), "{over_socket}");
}

#[test]
fn a_key_is_shown_once_and_holds_from_when_it_is_made_until_it_is_revoked() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "4096"]);
    let http = Http::default();
    let key = serve.command(&["keys", "add", "attic", "--scope", "admin"]);
    let key = key.trim();
    assert_eq!(ask(&http, &open, &format!("Bearer {key}")), 200);
    for wrong in [
        format!("Bearer {}", &key[..key.len() - 1]),
        format!("Bearer {key}0"),
        format!("Basic {key}"),
        key.to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", "x".repeat(10_000)),
    ] {
        assert_eq!(ask(&http, &open, &wrong), 401, "{wrong}");
    }
    let listed = serve.command(&["keys", "list"]);
    assert!(
        listed.contains("attic") && listed.contains("admin"),
        "{listed}"
    );
    assert!(!listed.contains(key), "{listed}");
    for file in cloister_tests::traces::files_below(serve.state()) {
        assert!(
            !cloister_tests::traces::holds(&file, key),
            "{}",
            file.display()
        );
    }
    // What was begun with it ends with it.
    let mut long = question("Count.", 3900);
    long["ignore_eos"] = json!(true);
    let whole = long.to_string();
    long["stream"] = json!(true);
    let streamed = long.to_string();
    let begun = [
        ("GET /api/events", ""),
        ("POST /v1/chat/completions", &*streamed),
        ("POST /v1/chat/completions", &*whole),
    ]
    .map(|(what, body)| {
        let mut raw = Raw::to(&open);
        let length = body.len();
        raw.send(format!(
            "{what} HTTP/1.1\r\nHost: {open}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        raw
    });
    serve.command(&["keys", "revoke", "attic"]);
    assert_eq!(ask(&http, &open, &format!("Bearer {key}")), 401);
    let [events, stream, answer] = begun.map(|mut raw| raw.rest());
    for broken_off in [events, stream] {
        assert!(broken_off.starts_with("HTTP/1.1 200"), "{broken_off}");
        // The last piece of a body that came to its end.
        assert!(!broken_off.ends_with("0\r\n\r\n"), "{broken_off}");
    }
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn each_key_is_a_client_of_its_own_from_whatever_address() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let http = Http::default();
    let url = format!("http://{open}{CHAT}");
    let request = question("Tell me of the sea and of all that swims in it.", 2).to_string();
    let add = |more: &[&str]| {
        let key = serve.command(&[&["keys", "add"], more].concat());
        format!("Bearer {}", key.trim())
    };
    let (attic, robot) = (add(&["attic"]), add(&["robot", "--automation"]));
    let listed = serve.command(&["keys", "list"]);
    assert!(listed.contains("robot  (automation)"), "{listed}");
    let cached = |key: &str| {
        let answer = http.post_with(&url, &request, &[("authorization", key)]);
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64()
    };
    assert_eq!(cached(&attic), Some(0));
    assert_eq!(cached(&robot), Some(0));
    assert!(cached(&attic) > Some(10));
}

#[test]
fn a_code_pairs_one_browser_once_and_guesses_are_few() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let said = serve.command(&["pair"]);
    let answer = pair(&open, code(&said));
    assert_eq!(answer.status, 204, "{}", answer.body);
    let cookie = answer.header("set-cookie").unwrap();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(
        !cookie.contains("Secure"),
        "over http no browser would keep it"
    );
    let cookie = cookie.split(';').next().unwrap();
    let models = Http::default()
        .get(&format!("http://{open}/v1/models"), &[("cookie", cookie)])
        .unwrap();
    assert_eq!(models.status, 200);
    assert_eq!(pair(&open, code(&said)).status, 403, "a code is good once");
    assert!(serve.command(&["keys", "list"]).contains("phone"));
    serve.command(&["keys", "revoke", "phone"]);
    let models = Http::default()
        .get(&format!("http://{open}/v1/models"), &[("cookie", cookie)])
        .unwrap();
    assert_eq!(models.status, 401);

    let said = serve.command(&["pair"]);
    let wrong = |n: u32| pair(&open, &format!("{n:08}")).status;
    let refusals: Vec<u16> = (0..12).map(wrong).collect();
    assert_eq!(
        refusals[8..],
        [403, 429, 429, 429],
        "one was wrong before: {refusals:?}"
    );
    assert_eq!(pair(&open, code(&said)).status, 429);
    // Who guesses keeps nobody else out: the code is good for the others.
    let book = std::fs::read_to_string(serve.state().join("access.json")).unwrap();
    let book: Value = serde_json::from_str(&book).unwrap();
    assert_eq!(book["codes"].as_array().map(Vec::len), Some(1));
    // The machine itself needs no code, and gets no cookie for one.
    let own = pair(serve.url.trim_start_matches("http://"), code(&said));
    assert_eq!((own.status, own.header("set-cookie")), (204, None));
}

#[test]
fn a_browser_is_led_to_the_code_and_then_to_the_page_all_of_it_by_tls() {
    let (serve, open) = Serve::start_open(&["--ctx", "256"]);
    let browser = Browser::start();
    browser.resize(1280, 800);
    // Without TLS it is led there, too.
    browser.open(&format!("http://{open}/"));
    let page = Page { browser };
    assert_eq!(page.text("location.href"), format!("https://{open}/pair"));
    if let Some(file) = std::env::var_os("CLOISTER_PAIR_PICTURE") {
        std::fs::write(file, page.browser.screenshot()).unwrap();
    }
    page.browser.type_into("#code", "0000 0000\u{e007}");
    until("a wrong code is refused in words", || {
        page.holds("document.getElementById('refused').innerText.includes('cloister pair')")
    });
    let said = serve.command(&["pair"]);
    page.browser
        .run("document.getElementById('code').value = ''");
    page.browser
        .type_into("#code", &format!("{}\u{e007}", code(&said)));
    until("the page is there", || {
        page.holds("document.querySelector('select#model')?.disabled === false")
    });
    page.ask("Name a flower.");
    assert!(!page.answer_when("done").is_empty());
    assert_eq!(page.text("document.cookie"), "", "no script can read it");
    let kept = page.browser.devtools("Network.getAllCookies", &json!({}));
    let cookie = &kept["cookies"][0];
    assert_eq!(
        (&cookie["secure"], &cookie["httpOnly"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(cookie["sameSite"], "Strict");
    let complaints = page.browser.complaints();
    assert!(
        complaints.iter().all(|said| said.contains("403")),
        "{complaints:?}"
    );
    serve.command(&["keys", "revoke", "browser"]);
    page.reload_raw();
    assert_eq!(page.text("location.pathname"), "/pair");
}

#[test]
fn on_the_port_with_tls_the_network_gets_no_answer_without_it_and_the_machine_does() {
    let (serve, open) = Serve::start_open(&["--ctx", "256"]);
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
    let head = |method: &str, host: &str| {
        exchange(
            &open,
            format!("{method} /a?b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
    };
    let led = head("GET", &open);
    assert!(led.starts_with("HTTP/1.1 308"), "{led}");
    assert!(
        led.contains(&format!("location: https://{open}/a?b\r\n")),
        "{led}"
    );
    for (method, host) in [("POST", open.as_str()), ("GET", "evil.example")] {
        let refused = head(method, host);
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    }
    // Rubbish that begins like TLS, and a client that has no words at all.
    assert_eq!(
        exchange(&open, b"\x16\x03\x01\x00\x05hello")
            .matches("HTTP")
            .count(),
        0
    );
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
}

#[test]
fn the_openai_and_the_ollama_packages_come_in_with_a_key_and_the_boxs_certificate() {
    let (serve, open) = Serve::start_open(&["--ctx", "256"]);
    let key = serve.command(&["keys", "add", "programs"]);
    let certificate = serve.state().join("tls/cert.pem");
    python::run(
        "with_key.py",
        &[
            &format!("https://{open}"),
            key.trim(),
            certificate.to_str().unwrap(),
        ],
    );
}
