//! The page about what the box keeps: what it shows is so, and its button erases everything.

use std::io::Write;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};

use cloister_tests::browser::Browser;
use cloister_tests::http::Http;
use cloister_tests::parts::{cached, smollm2};
use cloister_tests::process::until;
use cloister_tests::serve::Serve;
use cloister_tests::traces::{files_below, holds};
use cloister_tests::up::Up;
use serde_json::{Value, json};

/// A word that is nowhere but in the asks of this test.
const WORD: &str = "zaunzanzibar";

fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.run(&format!(
        "return document.querySelector('{selector}').innerText"
    ));
    text.as_str().expect("a text").to_owned()
}

#[test]
fn it_shows_what_runs_and_what_is_kept_and_erases_it() {
    let up = Up::start(&[]);
    let http = Http::default();
    let told = || {
        http.get(&format!("{}api/privacy", up.page), &[])
            .unwrap()
            .json()
    };
    let kept = |told: &Value, what: &str| {
        let stored = told["stored"].as_array().unwrap().clone();
        let found = stored.into_iter().find(|stored| stored["what"] == what);
        found.map(|stored| stored["rows"].as_u64().unwrap())
    };
    let ask =
        json!({"id": "1", "prompt": format!("Say {WORD}."), "max_tokens": 400, "temperature": 0});
    let publish = Command::new("mosquitto_pub")
        .args([
            "-p",
            &up.broker_port,
            "-q",
            "1",
            "-t",
            "cloister/test/ask",
            "-m",
            &ask.to_string(),
        ])
        .stdin(Stdio::null())
        .status();
    assert!(publish.unwrap().success());
    until("the ask is among what is kept", || {
        (kept(&told(), "journal") == Some(1)).then_some(())
    });
    let journal = || {
        let files = files_below(up.folder.path());
        files.into_iter().any(|file| holds(&file, WORD))
    };
    assert!(journal());

    let answer = told();
    let processes = answer["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2, "{answer}");
    for process in processes {
        assert_eq!(
            process["status"]["threads_filtered"], process["status"]["threads"],
            "{process}"
        );
        for holds in ["no_new_privs", "no_capabilities", "no_core_dumps"] {
            assert_eq!(process["status"][holds], true, "{process}");
        }
    }
    assert_eq!(processes[0]["outgoing_connections"], 0);
    assert_eq!(processes[0]["status"]["network_interfaces"], 0);
    assert_eq!(processes[1]["outgoing_connections"], 1, "to its broker");
    assert_eq!(answer["outgoing_connections"], 1);
    // Whose word that is.
    assert_eq!(processes[0]["counted_by"], "kernel");
    assert_eq!(processes[1]["counted_by"], "itself");
    // `up` seals itself last.
    until("the others are there and sealed", || {
        let told = told();
        let observed = told["observed"].as_array().unwrap();
        let sealed = observed
            .iter()
            .filter(|process| process["filtered"] == true && process["no_new_privs"] == true);
        let mut names: Vec<&str> = sealed
            .filter_map(|process| process["name"].as_str())
            .collect();
        names.sort_unstable();
        (names == ["broker", "model_trial", "templates", "up"]).then_some(())
    });

    let browser = Browser::start();
    browser.open(&format!("{}privacy", up.page));
    until("the page tells of both", || {
        (text(&browser, "#processes").contains("bridge") && text(&browser, "#opened") == "1")
            .then_some(())
    });
    assert!(text(&browser, "#processes").contains("sealed: system calls filtered"));
    for name in [
        "up, which",
        "Mosquitto",
        "tries models out",
        "renders chat templates",
    ] {
        assert!(text(&browser, "#processes").contains(name), "{name}");
    }
    assert!(text(&browser, "#stored").contains("MQTT"));
    browser.run("window.confirm = () => true");
    browser.click("#erase");
    until("nothing is kept", || {
        let told = told();
        (kept(&told, "journal") == Some(0) && told["erasing"] == false).then_some(())
    });
    assert!(!journal(), "the journal holds it still");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_stored_template_is_told_and_erased_and_only_by_the_owner() {
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    let mut request = cloister_tests::serve::question("Hello?", 2);
    request["messages"][0]["content"] = "You know the house and its rooms. ".repeat(12).into();
    request["cache"] = "template".into();
    assert_eq!(serve.chat(&request).status, 200);
    let templates = || serve.get("/api/privacy").json()["stored"][0].clone();
    let stored = templates();
    assert!(
        stored["rows"] == 1 && stored["bytes"].as_u64() > Some(1000),
        "{stored}"
    );
    serve.command(&["keys", "add", "attic"]);
    // Neither by accident nor for somebody else.
    assert_eq!(serve.post("/api/privacy/erase", "{}").status, 400);
    assert_eq!(templates()["rows"], 1);
    let report = serve.post("/api/privacy/report", "{}");
    assert_eq!(report.status, 400, "{}", report.body);
    let erased = serve.post("/api/privacy/erase", "{\"everything\": true}");
    assert_eq!(erased.status, 200, "{}", erased.body);
    assert_eq!(
        templates(),
        json!({"what": "templates", "rows": 0, "bytes": 0})
    );
    // The owner's keys and models stay.
    assert!(serve.command(&["keys", "list"]).contains("attic"));
    // It answers on.
    assert_eq!(
        serve
            .chat(&cloister_tests::serve::question("Hello?", 2))
            .status,
        200
    );
}

/// A connection whose reader has hardly a buffer.
fn with_little_room(place: SocketAddrV4) -> TcpStream {
    // SAFETY: the socket is this function's, and then the stream's alone; the numbers and the address live for the calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let room: libc::c_int = 2048;
        let size = size_of_val(&room) as libc::socklen_t;
        let set = libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const room).cast(),
            size,
        );
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = place.port().to_be();
        address.sin_addr.s_addr = u32::from(*place.ip()).to_be();
        let size = size_of_val(&address) as libc::socklen_t;
        let connected = libc::connect(socket, (&raw const address).cast(), size);
        assert_eq!((set, connected), (0, 0));
        TcpStream::from_raw_fd(socket)
    }
}

#[test]
fn who_does_not_read_an_answer_keeps_nothing_from_being_erased() {
    let serve = Serve::start(&smollm2(), &["--ctx", "1024"]);
    let mut template = cloister_tests::serve::question("Hello?", 2);
    template["messages"][0]["content"] = "You know the house and its rooms. ".repeat(12).into();
    template["cache"] = "template".into();
    assert_eq!(serve.chat(&template).status, 200);
    // More than the buffers between the two hold, from a client that never looks.
    let mut request = cloister_tests::serve::question("Tell a long story.", 900);
    for (name, value) in [("stream", json!(true)), ("ignore_eos", json!(true))] {
        request[name] = value;
    }
    let body = request.to_string();
    let place = serve.url.trim_start_matches("http://");
    let mut stream = with_little_room(place.parse().unwrap());
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    until("it is being answered", || {
        (serve.metric("slots_busy") == 1.0).then_some(())
    });
    let erased = serve.post("/api/privacy/erase", "{\"everything\": true}");
    assert_eq!(erased.status, 200, "{}", erased.body);
    let stored = serve.get("/api/privacy").json()["stored"][0].clone();
    assert_eq!(stored["rows"], 0, "{stored}");
    drop(stream);
}

#[test]
fn an_order_to_erase_outlives_a_restart_until_the_bridge_has_heard_it() {
    let mut serve = Serve::start(&smollm2(), &["--ctx", "256"]);
    let erased = serve.post("/api/privacy/erase", "{\"everything\": true}");
    assert_eq!(erased.json()["bridge"], false);
    let erasing = |serve: &Serve| serve.get("/api/privacy").json()["erasing"].clone();
    assert_eq!(erasing(&serve), true);
    serve.stop();
    serve.restart(&smollm2(), &["--ctx", "256"]);
    assert_eq!(erasing(&serve), true);
    let report = |name: &str, erased: Value| {
        let own = serve.get("/api/privacy").json()["processes"][0].clone();
        let mut report = json!({"name": name, "stored": [], "erased": erased});
        for field in ["seal", "gaps", "status", "outgoing_connections"] {
            report[field] = own[field].clone();
        }
        let answer = cloister_tests::http::post_over_unix(
            &serve.socket(),
            "/api/privacy/report",
            &report.to_string(),
        );
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["erase"].clone()
    };
    let order = report("bridge", Value::Null);
    assert!(order.is_u64(), "{order}");
    // Another's word that it is done is not the bridge's.
    assert_eq!(report("panel", order.clone()), order);
    assert_eq!(report("bridge", order), Value::Null);
    assert_eq!(erasing(&serve), false);
    serve.stop();
    serve.restart(&smollm2(), &["--ctx", "256"]);
    assert_eq!(erasing(&serve), false);
}

#[test]
fn axe_finds_nothing_to_complain_about_on_a_phone_and_on_a_desk_by_day_and_by_night() {
    let axe = std::fs::read_to_string(cached("axe-core-4.14.1.min.js")).unwrap();
    let serve = Serve::start(&smollm2(), &["--ctx", "512"]);
    let browser = Browser::start();
    let looks = [(360, 740), (1280, 800)];
    let looks = looks.map(|look| [(look, "light"), (look, "dark")]);
    for (page, list, told) in [
        ("privacy", "#processes", "sealed"),
        ("box", "#models", "smollm2"),
    ] {
        browser.open(&format!("{}/{page}", serve.url));
        until("the page tells", || {
            text(&browser, list).contains(told).then_some(())
        });
        for ((width, height), theme) in looks.into_iter().flatten() {
            browser.resize(width, height);
            let features = json!({"features": [
                {"name": "prefers-color-scheme", "value": theme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]});
            browser.devtools("Emulation.setEmulatedMedia", &features);
            browser.run(&format!("{axe}; return typeof axe"));
            let found = browser.run_async(
                "const done = arguments[arguments.length - 1]; axe.run(document).then(r => done({passes: r.passes.length, \
                 violations: r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).join(', '))}))",
            );
            assert!(
                found["passes"].as_u64() > Some(10),
                "axe did not run: {found}"
            );
            assert_eq!(
                found["violations"],
                json!([]),
                "/{page}, {theme} at {width} px"
            );
            let wide =
                browser.run("return document.documentElement.scrollWidth > window.innerWidth");
            assert_eq!(wide, json!(false), "/{page} scrolls sideways at {width} px");
        }
    }
}
