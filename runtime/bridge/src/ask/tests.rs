use serde_json::json;

use super::*;
use cloister_program::node::Node;

fn read(payload: &[u8]) -> Result<Ask, Refused> {
    let topics = Topics::of(&Node::parse("n").unwrap(), &[]);
    parse(payload, Form::Either, &topics)
}

fn refusal(payload: &str) -> Refused {
    read(payload.as_bytes()).expect_err(payload)
}

/// A sample of the payloads that reached new code while `tests/fuzz` ran.
#[test]
fn every_payload_of_the_fuzz_corpus_is_an_ask_or_refused() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus/ask");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(files.len() > 20, "{}", files.len());
    let topics = Topics::of(&Node::parse("n").unwrap(), &[]);
    for file in files {
        let payload = std::fs::read(file.unwrap().path()).unwrap();
        for form in [Form::Either, Form::Json, Form::Text] {
            match parse(&payload, form, &topics) {
                Ok(ask) => assert!(ask.request["messages"].is_array()),
                Err(refused) => drop(refused.error.payload(refused.id.as_ref())),
            }
        }
    }
}

#[test]
fn plain_text_is_the_prompt_as_it_stands() {
    let ask = read(" What is \"2+2\"?\n".as_bytes()).unwrap();
    assert_eq!(
        ask.request["messages"],
        json!([{"role": "user", "content": " What is \"2+2\"?\n"}])
    );
    assert!(!ask.stream);
    assert_eq!(ask.reply_to, None);
}

#[test]
fn text_in_brackets_or_quotes_is_still_text() {
    for text in ["[1, 2]", "\"quoted\"", "42", "null"] {
        let ask = read(text.as_bytes()).unwrap();
        assert_eq!(ask.request["messages"][0]["content"], text);
    }
}

#[test]
fn every_known_field_reaches_the_engine_or_the_bridge() {
    let ask = read(
        br#"{"id":"q7","messages":[{"role":"user","content":"hi"}],"model":"m","stream":true,
             "max_tokens":5,"temperature":0,"think":null,"format":null,"reply_to":"answers/me"}"#,
    )
    .unwrap();
    assert_eq!(ask.id, AskId::parse("q7").unwrap());
    assert_eq!(
        ask.request,
        json!({
            "messages": [{"role": "user", "content": "hi"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "return_progress": true,
            "service_tier": "flex",
            "model": "m",
            "max_tokens": 5,
            "temperature": 0,
        })
    );
    assert!(ask.stream);
    assert_eq!(ask.reply_to.as_deref(), Some("answers/me"));
}

#[test]
fn a_thought_and_a_shape_are_asked_for_in_the_engines_words() {
    for (field, name, value) in [
        (r#""think":false"#, "think", json!(false)),
        (r#""think":"low""#, "think", json!("low")),
        (
            r#""format":"json""#,
            "response_format",
            json!({"type": "json_object"}),
        ),
        (
            r#""format":{"type":"integer"}"#,
            "response_format",
            json!({"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}),
        ),
    ] {
        let ask = read(format!(r#"{{"prompt":"hi",{field}}}"#).as_bytes()).unwrap();
        assert_eq!(ask.request[name], value, "{field}");
    }
}

#[test]
fn the_engine_is_always_asked_to_stream_so_that_hanging_up_cancels() {
    let ask = read(br#"{"prompt":"hi","stream":false}"#).unwrap();
    assert_eq!(ask.request["stream"], true);
    assert!(!ask.stream);
}

#[test]
fn an_ask_without_an_id_gets_one() {
    let (a, b) = (read(b"hi").unwrap(), read(br#"{"prompt":"hi"}"#).unwrap());
    assert_ne!(a.id, b.id);
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    for (payload, code, named) in [
        (
            r#"{"prompt":"hi","prompt":"ho"}"#,
            ErrorCode::BadRequest,
            "prompt",
        ),
        (r#"{"prompt":7}"#, ErrorCode::BadRequest, "prompt"),
        (r#"{"prompt":" "}"#, ErrorCode::BadRequest, "prompt"),
        (r#"{}"#, ErrorCode::BadRequest, "messages"),
        (
            r#"{"promt":"a"}"#,
            ErrorCode::BadRequest,
            "\"promt\" is unknown",
        ),
        (
            r#"{"prompt":"a","messages":[{}]}"#,
            ErrorCode::BadRequest,
            "both",
        ),
        (r#"{"messages":[]}"#, ErrorCode::BadRequest, "messages"),
        (r#"{"messages":["hi"]}"#, ErrorCode::BadRequest, "messages"),
        (
            r#"{"prompt":"a","model":""}"#,
            ErrorCode::BadRequest,
            "model",
        ),
        (
            r#"{"prompt":"a","stream":1}"#,
            ErrorCode::BadRequest,
            "stream",
        ),
        (
            r#"{"prompt":"a","max_tokens":-1}"#,
            ErrorCode::BadRequest,
            "max_tokens",
        ),
        (
            r#"{"prompt":"a","max_tokens":0}"#,
            ErrorCode::BadRequest,
            "max_tokens",
        ),
        (
            r#"{"prompt":"a","max_tokens":1.5}"#,
            ErrorCode::BadRequest,
            "max_tokens",
        ),
        (
            r#"{"prompt":"a","max_tokens":1e30}"#,
            ErrorCode::BadRequest,
            "max_tokens",
        ),
        (
            r#"{"prompt":"a","max_tokens":"5"}"#,
            ErrorCode::BadRequest,
            "max_tokens",
        ),
        (
            r#"{"prompt":"a","temperature":-0.1}"#,
            ErrorCode::BadRequest,
            "temperature",
        ),
        (
            r#"{"prompt":"a","temperature":3}"#,
            ErrorCode::BadRequest,
            "temperature",
        ),
        (
            r#"{"prompt":"a","deadline":60}"#,
            ErrorCode::BadRequest,
            "deadline",
        ),
        (
            r#"{"prompt":"a","deadline":1789000000000}"#,
            ErrorCode::BadRequest,
            "deadline",
        ),
        (
            r#"{"prompt":"a","deadline":"soon"}"#,
            ErrorCode::BadRequest,
            "deadline",
        ),
        (
            r#"{"prompt":"a","think":1}"#,
            ErrorCode::BadRequest,
            "think",
        ),
        (
            r#"{"prompt":"a","format":"xml"}"#,
            ErrorCode::BadRequest,
            "format",
        ),
        (
            r#"{"prompt":"a","format":["json"]}"#,
            ErrorCode::BadRequest,
            "format",
        ),
    ] {
        let refused = refusal(payload);
        assert_eq!(refused.error.code, code, "{payload}");
        assert!(
            refused.error.message.contains(named),
            "{payload}: {}",
            refused.error.message
        );
        assert!(refused.id.is_some(), "{payload} is told under an id");
    }
}

#[test]
fn the_error_is_told_under_the_id_and_on_the_topic_that_the_ask_named() {
    let refused = refusal(r#"{"prompt":1,"id":"q8","reply_to":"answers/me"}"#);
    assert_eq!(refused.id, Some(AskId::parse("q8").unwrap()));
    assert_eq!(refused.reply_to.as_deref(), Some("answers/me"));
}

#[test]
fn a_field_that_nobody_knows_is_skipped_and_named() {
    let ask = read(br#"{"prompt":"hi","max_token":5,"room":null}"#).unwrap();
    assert_eq!(ask.ignored, ["max_token"]);
    assert_eq!(ask.request["max_token"], Value::Null);
}

#[test]
fn a_deadline_is_kept_in_milliseconds() {
    let ask = read(br#"{"prompt":"hi","deadline":1789000000.5}"#).unwrap();
    assert_eq!(ask.deadline, Some(1_789_000_000_500));
}

#[test]
fn a_content_type_decides_how_it_is_read() {
    let topics = Topics::of(&Node::parse("n").unwrap(), &[]);
    let text = parse(
        b"{not JSON}",
        Form::of(Some("text/plain; charset=utf-8")),
        &topics,
    );
    assert!(text.unwrap().bare);
    let json = parse(b"not JSON", Form::of(Some("application/JSON")), &topics);
    assert_eq!(json.unwrap_err().error.code, ErrorCode::BadRequest);
    assert_eq!(Form::of(Some("image/png")), Form::Either);
}

#[test]
fn an_id_that_cannot_stand_in_a_topic_is_refused_without_one() {
    for payload in [
        r#"{"id":"","prompt":"a"}"#,
        r#"{"id":"a/b","prompt":"a"}"#,
        r##"{"id":"#","prompt":"a"}"##,
        r#"{"id":5,"prompt":"a"}"#,
        r#"{"id":"a\u0000b","prompt":"a"}"#,
    ] {
        let refused = refusal(payload);
        assert_eq!(refused.id, None, "{payload}");
        assert_eq!(refused.error.code, ErrorCode::BadRequest);
    }
}

#[test]
fn a_reply_topic_that_leads_back_here_is_refused() {
    let refused = refusal(r#"{"id":"q","prompt":"a","reply_to":"cloister/n/ask"}"#);
    assert_eq!(refused.error.code, ErrorCode::BadRequest);
    assert_eq!(refused.reply_to, None);
}

#[test]
fn what_is_no_ask_at_all_is_refused() {
    let long = vec![b'x'; MAX_ASK_BYTES + 1];
    for payload in [
        b"".as_slice(),
        b" \n",
        b"\xff\xfe",
        b"{",
        b"{broken",
        b"{\"prompt\":\"a\"} trailing",
        &long,
    ] {
        let refused = read(payload).unwrap_err();
        assert_eq!(refused.id, None);
        assert_eq!(refused.error.code, ErrorCode::BadRequest);
    }
    assert!(read(&vec![b'x'; MAX_ASK_BYTES]).is_ok());
}
