//! What other people's pages and programs try against the port: refused, and nobody else notices.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use cloister_tests::process::until;
use cloister_tests::raw::{Raw, exchange};
use cloister_tests::serve::{Serve, question};

const CHAT: &str = "/v1/chat/completions";

/// `host:port` of loopback.
fn own(serve: &Serve) -> &str {
    serve.url.trim_start_matches("http://")
}

fn status(answer: &str) -> u16 {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer but {answer:?}"))
}

/// Somebody else is answered as ever.
fn others_are_answered(serve: &Serve) {
    let answer = serve.chat(&question("Hi", 2));
    assert_eq!(answer.status, 200, "{}", answer.body);
    until("no slot is left busy", || {
        (serve.metric("slots_busy") == 0.0).then_some(())
    });
}

/// A POST of a chat request with these lines in its head.
fn chat_with(lines: &str) -> String {
    let body = question("Hi", 2).to_string();
    format!(
        "POST {CHAT} HTTP/1.1\r\n{lines}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_name_that_somebody_else_points_at_the_box_is_refused_however_it_is_written() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    let port = place.rsplit(':').next().unwrap();
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        status(&exchange(
            &place,
            chat_with(&format!("Host: {place}\r\n{json}"))
        )),
        200
    );
    for hosts in [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
        "Host: \r\n".to_owned(),
        "Host:\r\n".to_owned(),
        String::new(),
        format!("Host: {place}\r\nHost: {place}\r\n"),
        format!("Host: evil.example\r\nHost: {place}\r\n"),
        format!("Host: evil.example@{place}\r\n"),
        format!("Host: {place}@evil.example\r\n"),
        format!("Host: {place}, evil.example\r\n"),
        format!("Host: {place} evil.example\r\n"),
        format!("Host: {place}/\r\n"),
        "Host: localhost:\r\n".to_owned(),
        "Host: localhost:0x50\r\n".to_owned(),
        "Host: [::1\r\n".to_owned(),
        "Host: \u{6c}\u{6f}calhost\u{2024}evil.example\r\n".to_owned(),
    ] {
        let answer = exchange(&place, chat_with(&format!("{hosts}{json}")));
        assert!([400, 403].contains(&status(&answer)), "{hosts:?}: {answer}");
    }
    // The target names a host by itself, as to a proxy.
    let absolute = |target: &str, host: &str| {
        status(&exchange(
            &place,
            format!(
                "GET http://{target}/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            ),
        ))
    };
    assert_eq!(absolute(&place, &place), 200);
    assert_eq!(absolute("evil.example", &place), 403);
    assert_eq!(absolute(&place, "evil.example"), 403);
    assert_eq!(absolute(&format!("localhost:{port}"), &place), 400);
    let old = exchange(&place, "GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(status(&old), 400, "{old}");
    // Our own name in `.local`, where a neighbour answers for it, first with his address and then with loopback.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let first = name.trim().split('.').next().unwrap();
    for name in [format!("{first}.local:{port}"), name.trim().to_owned()] {
        let origin = format!("Host: {name}\r\nOrigin: http://{name}\r\n{json}");
        assert_eq!(status(&exchange(&place, chat_with(&origin))), 403, "{name}");
    }
    others_are_answered(&serve);
}

#[test]
fn who_comes_by_a_proxy_on_the_machine_comes_from_the_network() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    let asked = |header: &str| {
        let headers = format!("Host: {place}\r\nContent-Type: application/json\r\n{header}");
        status(&exchange(&place, chat_with(&headers)))
    };
    assert_eq!(asked(""), 200);
    for header in [
        "X-Forwarded-For: 192.168.1.66\r\n",
        "Forwarded: for=192.168.1.66\r\n",
        "X-Real-IP: 127.0.0.1\r\n",
        "Via: 1.1 proxy\r\n",
        "CF-Connecting-IP: 192.168.1.66\r\n",
        "True-Client-IP: 192.168.1.66\r\n",
        "X-Client-IP: 192.168.1.66\r\n",
        "X-Cluster-Client-IP: 192.168.1.66\r\n",
        "X-Forwarded: for=192.168.1.66\r\n",
    ] {
        assert_eq!(asked(header), 401, "{header}");
    }
    // Nor over the box's Unix socket, which a proxy may reach as well.
    let ledger = |lines: &str| {
        let mut stream = UnixStream::connect(serve.socket()).unwrap();
        let head = format!("GET /api/privacy HTTP/1.1\r\n{lines}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        status(&answer)
    };
    assert_eq!(ledger(&format!("Host: {place}\r\n")), 200);
    let from = "X-Forwarded-For: 192.168.1.66\r\n";
    assert_eq!(ledger(&format!("Host: {place}\r\n{from}")), 401);
    assert_eq!(ledger(&format!("Host: evil.example\r\n{from}")), 403);
}

#[test]
fn a_form_or_a_script_of_another_site_changes_nothing_and_reads_nothing() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    let port = place.rsplit(':').next().unwrap();
    let with = |lines: &str| exchange(&place, chat_with(&format!("Host: {place}\r\n{lines}")));
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        status(&with(&format!(
            "{json}Origin: http://{place}\r\nSec-Fetch-Site: same-origin\r\n"
        ))),
        200
    );
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "text/plain; application/json",
    ] {
        // No origin, as old browsers send it.
        let answer = with(&format!("Content-Type: {kind}\r\n"));
        assert_eq!(status(&answer), 400, "{kind}: {answer}");
    }
    assert_eq!(status(&with("")), 400, "no content type");
    for origin in [
        "null",
        "http://evil.example",
        "https://evil.example",
        &format!("https://{place}"),
        &format!("http://localhost:{port}"),
        &format!("http://{place}.evil.example"),
        "http://127.0.0.1",
        "",
        "file://",
    ] {
        let answer = with(&format!("{json}Origin: {origin}\r\n"));
        assert_eq!(status(&answer), 403, "{origin}: {answer}");
    }
    // The origin is left out, but the browser says that another site began it.
    for site in ["cross-site", "same-site"] {
        let answer = with(&format!("{json}Sec-Fetch-Site: {site}\r\n"));
        assert_eq!(status(&answer), 403, "{site}: {answer}");
    }
    // What a script asks before it may ask, and what it could read without asking.
    for request in [
        format!(
            "OPTIONS {CHAT} HTTP/1.1\r\nHost: {place}\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "GET /v1/models HTTP/1.1\r\nHost: {place}\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n"
        ),
        format!("GET /v1/models HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n"),
    ] {
        let answer = exchange(&place, &request).to_ascii_lowercase();
        assert!(!answer.contains("access-control-"), "{answer}");
    }
    others_are_answered(&serve);
}

#[test]
fn no_path_and_no_model_name_climbs_out() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    for path in [
        "/../../../../etc/passwd",
        "/js/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%252e%252e%252fetc%252fpasswd",
        "/....//....//etc/passwd",
        "/..\\..\\etc\\passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/style.css%00.html",
        "/%00",
        "/\0",
        "/%c0%ae%c0%ae/etc/passwd",
        "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/models/%2fetc%2fpasswd",
        "/v1/models/%00",
        "/v1/models/..",
        "/v1/models/%ff%fe",
        "/v1/models/a/b",
    ] {
        let answer = exchange(
            &place,
            format!("GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n"),
        );
        assert!([400, 404].contains(&status(&answer)), "{path:?}: {answer}");
        assert!(!answer.contains("root:"), "{path:?}: {answer}");
    }
    for model in [
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        "a\u{0}b",
        "",
        ".",
    ] {
        for path in [CHAT, "/api/chat", "/api/show", "/v1/embeddings"] {
            let mut request = question("Hi", 2);
            request["model"] = model.into();
            request["input"] = "x".into();
            let answer = serve.post(path, &request.to_string());
            assert!(
                (400..500).contains(&answer.status),
                "{path} {model:?}: {}",
                answer.body
            );
            assert!(!answer.body.contains("root:"));
        }
    }
    others_are_answered(&serve);
}

#[test]
fn no_second_request_hides_in_the_body_of_a_first() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    let hidden = format!("GET /health HTTP/1.1\r\nHost: {place}\r\n\r\n");
    let first = |lines: &str, body: &str| {
        format!(
            "POST /api/render HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\n{lines}\r\n{body}"
        )
    };
    let text = r#"{"text":"*Hi*"}"#;
    let chunked = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    let length = text.len();
    // A head that says one thing alone: answered, with what follows, on the same connection.
    let sound = first(&format!("Content-Length: {length}\r\n"), text);
    let last = hidden.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let answers = exchange(&place, sound + &last);
    assert!(
        answers.contains("<em>Hi</em>") && answers.contains("\"ok\""),
        "{answers}"
    );

    for (lines, body) in [
        // Both lengths: the chunks count, and what comes after them is nobody's request.
        (
            format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                chunked.len() + hidden.len()
            ),
            chunked.clone(),
        ),
        (
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
            chunked.clone(),
        ),
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".into(),
            "0\r\n\r\n".into(),
        ),
        // Encodings that are none, or not the last.
        ("Transfer-Encoding: xchunked\r\n".into(), chunked.clone()),
        (
            "Transfer-Encoding: chunked, identity\r\n".into(),
            chunked.clone(),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".into(),
            chunked.clone(),
        ),
        ("Transfer-Encoding : chunked\r\n".into(), chunked.clone()),
        ("Transfer-Encoding:\u{b}chunked\r\n".into(), chunked.clone()),
        // Lengths that are none, or two.
        (
            format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
            text.into(),
        ),
        (format!("Content-Length: {length}, 0\r\n"), text.into()),
        (format!("Content-Length: +{length}\r\n"), text.into()),
        (format!("Content-Length: -{length}\r\n"), text.into()),
        (format!("Content-Length: {length:#x}\r\n"), text.into()),
        (format!("Content-Length : {length}\r\n"), text.into()),
        (
            "Content-Length: 99999999999999999999999\r\n".into(),
            text.into(),
        ),
        // A line that goes on in the next, and bytes that no line has.
        (
            format!("X: a\r\n Content-Length: 0\r\nContent-Length: {length}\r\n"),
            text.into(),
        ),
        (
            format!("X: a\0b\r\nContent-Length: {length}\r\n"),
            text.into(),
        ),
        (format!("Content-Length: {length}\rX: b\r\n"), text.into()),
        // Chunks whose sizes are none.
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("zz\r\n{text}\r\n0\r\n\r\n"),
        ),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("-1\r\n{text}\r\n0\r\n\r\n"),
        ),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("0x{length:x}\r\n{text}\r\n0\r\n\r\n"),
        ),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("ffffffffffffffffff\r\n{text}\r\n0\r\n\r\n"),
        ),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("{length:x}\r\n{text}XX0\r\n\r\n"),
        ),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("1\r\n{text}\r\n0\r\n\r\n"),
        ),
    ] {
        let answers = exchange(&place, first(&lines, &body) + &hidden);
        assert!(
            answers.matches("HTTP/1.1 ").count() <= 1,
            "{lines:?}: {answers}"
        );
        assert!(
            !answers.contains(r#""status":"ok""#),
            "{lines:?}: {answers}"
        );
        let both = lines.contains("Content-Length:") && lines.contains("Transfer-Encoding:");
        assert!(
            both || !answers.starts_with("HTTP/1.1 200"),
            "{lines:?}: {answers}"
        );
    }
    others_are_answered(&serve);
}

#[test]
fn heads_and_bodies_that_are_too_large_are_refused_before_they_are_read() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    let head = |lines: &str| format!("GET /health HTTP/1.1\r\nHost: {place}\r\n{lines}\r\n");
    let long = |bytes: usize| "x".repeat(bytes);
    for (request, expected) in [
        (head(&format!("X: {}\r\n", long(40_000))), vec![431]),
        (head(&"X: y\r\n".repeat(200)), vec![431]),
        (
            format!("GET /{} HTTP/1.1\r\nHost: {place}\r\n\r\n", long(70_000)),
            vec![414, 431],
        ),
        (
            format!("{} / HTTP/1.1\r\nHost: {place}\r\n\r\n", long(70_000)),
            vec![400, 414, 431],
        ),
    ] {
        let answer = exchange(&place, &request);
        assert!(expected.contains(&status(&answer)), "{answer}");
    }
    // A head that never ends.
    let mut endless = Raw::to(&place);
    endless.send(format!("GET / HTTP/1.1\r\nHost: {place}\r\n"));
    let piece = "X: ".to_owned() + &long(1000) + "\r\n";
    let sent = (0..10_000).take_while(|_| endless.send(&piece)).count();
    assert!(sent < 10_000, "ten megabytes of a head were taken");
    let chat = |lines: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\n{lines}\r\n"
        )
    };
    let answer = exchange(&place, chat("Content-Length: 1000000000\r\n"));
    assert_eq!(status(&answer), 413, "{answer}");
    let mut endless = Raw::to(&place);
    endless.send(chat("Transfer-Encoding: chunked\r\n"));
    let piece = format!("10000\r\n{}\r\n", long(0x10000));
    let sent = (0..1000).take_while(|_| endless.send(&piece)).count();
    assert!(sent < 1000, "64 MiB of a body were taken");
    let body = b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}";
    let head = chat(&format!(
        "Connection: close\r\nContent-Length: {}\r\n",
        body.len()
    ));
    let answer = exchange(&place, [head.as_bytes(), body].concat());
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.contains("the body is no JSON"), "{answer}");
    others_are_answered(&serve);
}

#[test]
fn many_large_bodies_at_once_do_not_fill_the_memory() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    others_are_answered(&serve);
    let before = serve.most_memory();
    // A few bytes that become hundreds in memory: as many as are in a body, and as many as are read.
    let requests = [2 << 20, 65_000].map(|n| {
        let body = format!("[{}0{}]", r#"{"":0},"#.repeat(n), " ".repeat((15 << 20) - 7 * n));
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let statuses = std::thread::scope(|scope| {
        let many: Vec<_> = (0..60)
            .map(|n| (&place, &requests[n % 2]))
            .map(|(place, request)| scope.spawn(move || exchange(place, request)))
            .collect();
        // Meanwhile.
        others_are_answered(&serve);
        let answers = many.into_iter().map(|one| one.join().unwrap());
        // A connection may end before its answer is read, as not all was read that was sent.
        let answers = answers.filter(|answer| !answer.is_empty());
        answers.map(|answer| status(&answer)).collect::<Vec<_>>()
    });
    assert!(
        statuses
            .iter()
            .all(|status| [400, 413, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&503), "{statuses:?}");
    // One after the other there is room for each, so that both are read.
    let alone = requests.map(|request| status(&exchange(&place, &request)));
    assert_eq!(alone, [413, 400]);
    let grown = serve.most_memory() - before;
    println!("{} MiB more", grown >> 20);
    assert!(grown < 200 << 20, "{} MiB", grown >> 20);
    others_are_answered(&serve);
}

#[test]
fn who_is_slow_is_let_go_and_who_is_not_does_not_notice() {
    let serve = Serve::start(&cloister_tests::parts::smollm2(), &["--ctx", "256"]);
    let place = own(&serve).to_owned();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\n");
    let mut slow: Vec<Raw> = (0..100).map(|_| Raw::to(&place)).collect();
    for (n, raw) in slow.iter_mut().enumerate() {
        raw.send(match n % 4 {
            // Nothing, half a head, a head without its body, and a part of a chunk.
            0 => String::new(),
            1 => head.clone(),
            2 => format!("{head}Content-Length: 1000\r\n\r\n{{"),
            _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"),
        });
    }
    others_are_answered(&serve);
    for (n, raw) in slow.iter_mut().enumerate() {
        // A byte now and then does not help.
        raw.send("x");
        assert!(raw.is_closed(), "{n}");
    }
    others_are_answered(&serve);
}

#[test]
fn one_client_of_the_network_takes_neither_all_connections_nor_all_requests() {
    let (serve, open) = Serve::start_open(&["--tls", "false", "--ctx", "256"]);
    let mut many: Vec<Raw> = (0..60).map(|_| Raw::to(&open)).collect();
    let request = format!("GET /health HTTP/1.1\r\nHost: {open}\r\n\r\n");
    let served = many
        .iter_mut()
        .map(|raw| raw.send(&request) && raw.line().contains("200"))
        .filter(|served| *served);
    assert_eq!(served.count(), 32);
    others_are_answered(&serve);
    drop(many);

    let refused = (0..2000).find_map(|_| {
        let answer = exchange(
            &open,
            request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
        );
        (!answer.is_empty() && status(&answer) == 429).then_some(answer)
    });
    let refused = refused.expect("somebody who asks that often is told to wait");
    assert!(
        refused.to_ascii_lowercase().contains("retry-after: 1\r\n"),
        "{refused}"
    );
    others_are_answered(&serve);
}
