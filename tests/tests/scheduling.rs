//! Who is answered first when more ask than there are slots, and who is turned away.

use cloister_tests::http::Events;
use cloister_tests::parts::smollm2;
use cloister_tests::serve::{Serve, question};
use serde_json::{Value, json};

/// A streamed request that tells its place in the queue.
fn open(serve: &Serve, tier: &str) -> Events {
    let mut request = question("Count.", 4);
    request["return_progress"] = json!(true);
    request["service_tier"] = json!(tier);
    serve.open_chat_stream(&request)
}

/// One that has the only slot, for long.
fn running(serve: &Serve) -> Events {
    let mut request = question("Count.", 3000);
    request["ignore_eos"] = json!(true);
    let mut events = serve.open_chat_stream(&request);
    events.next().expect("it begins");
    events
}

fn place(events: &mut Events) -> Value {
    let event = events.next().expect("an event");
    let event: Value = serde_json::from_str(&event).expect("an event is JSON");
    event["queue"]["position"].clone()
}

#[test]
fn who_can_wait_waits_for_who_cannot() {
    let serve = Serve::start(&smollm2(), &["--slots", "1"]);
    let running = running(&serve);
    let mut flex = open(&serve, "flex");
    assert_eq!(place(&mut flex), 1);
    let mut person = open(&serve, "auto");
    assert_eq!(place(&mut person), 1);
    assert_eq!(place(&mut flex), 2);
    drop(running);
    for events in [person, flex] {
        assert_eq!(events.last().as_deref(), Some("[DONE]"));
    }
}

#[test]
fn a_short_question_does_not_wait_for_a_long_prompt_that_came_first() {
    let serve = Serve::start(&smollm2(), &["--slots", "2", "--ctx", "4096"]);
    let mut long = question(&"word ".repeat(3_500), 1);
    long["return_progress"] = json!(true);
    long["service_tier"] = json!("flex");
    let mut long = serve.open_chat_stream(&long);
    let read = |event: &str| {
        let event: Value = serde_json::from_str(event).expect("an event is JSON");
        let progress = &event["prompt_progress"];
        Some((progress["processed"].as_u64()?, progress["total"].as_u64()?))
    };
    let begun = long
        .by_ref()
        .find_map(|event| read(&event).filter(|(n, _)| *n > 0));
    let (_, total) = begun.expect("it is read in slices");
    assert_eq!(serve.chat(&question("Hi", 1)).status, 200);
    let read = serve.metric("prompt_tokens_total");
    assert!(read < total as f64, "{read} of {total} were read first");
}

#[test]
fn a_deadline_that_passes_while_a_prompt_is_read_ends_that() {
    let serve = Serve::start(&smollm2(), &["--slots", "1", "--ctx", "4096"]);
    let mut late = question(&"word ".repeat(3_900), 1);
    late["deadline_ms"] = json!(200);
    let answer = serve.chat(&late);
    assert_eq!(answer.status, 408, "{}", answer.body);
    // Of the batch in which it passed nothing is kept.
    assert!(serve.metric("prompt_tokens_total") < 3_900.0);
    assert_eq!(serve.chat(&question("Hi", 1)).status, 200);
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let serve = Serve::start(&smollm2(), &["--slots", "1", "--queue", "2"]);
    let running = running(&serve);
    let mut waiting = [open(&serve, "auto"), open(&serve, "auto")];
    assert_eq!(waiting.each_mut().map(place), [json!(1), json!(2)]);
    for path in ["/v1/chat/completions", "/api/chat"] {
        let answer = serve.post(
            path,
            &json!({"messages": [{"role": "user", "content": "Hi"}]}).to_string(),
        );
        assert_eq!(answer.status, 429, "{}", answer.body);
        assert!(
            answer
                .header("retry-after")
                .is_some_and(|s| s.parse::<u32>().is_ok())
        );
    }
    drop(running);
    for events in waiting {
        assert_eq!(events.last().as_deref(), Some("[DONE]"));
    }
}

#[test]
fn a_request_that_is_not_answered_by_its_deadline_ends() {
    let serve = Serve::start(&smollm2(), &["--slots", "1"]);
    let mut late = question("Count.", 3000);
    late["ignore_eos"] = json!(true);
    late["deadline_ms"] = json!(300);
    let answer = serve.chat(&late);
    assert_eq!(answer.status, 408, "{}", answer.body);
    assert_eq!(answer.json()["error"]["code"], "deadline_exceeded");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let last = serve.open_chat_stream(&late).last().expect("an event");
    let last: Value = serde_json::from_str(&last).expect("an event is JSON");
    assert_eq!(last["error"]["code"], "deadline_exceeded", "{last}");
    for (name, value) in [
        ("deadline_ms", json!(0)),
        ("deadline_ms", json!("soon")),
        ("service_tier", json!("first class")),
    ] {
        let mut request = question("Hi", 2);
        request[name] = value;
        assert_eq!(serve.chat(&request).json()["error"]["param"], name);
    }
    assert_eq!(serve.chat(&question("Hi", 2)).status, 200);
}
