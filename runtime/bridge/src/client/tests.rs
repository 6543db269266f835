use super::*;

#[test]
fn a_reply_grows_chunk_by_chunk() {
    let mut reply = Reply::default();
    let chunks = [
        json!({"choices": [{"delta": {"role": "assistant"}}]}),
        json!({"choices": [{"delta": {"reasoning_content": "hm"}}]}),
        json!({"choices": [{"delta": {"content": "a"}}], "usage": null}),
        json!({"choices": [{"delta": {"content": "b"}}]}),
        json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": {"predicted_n": 2}}),
        json!({"choices": [], "usage": {"completion_tokens": 2}}),
    ];
    let deltas: Vec<_> = chunks
        .into_iter()
        .filter_map(|chunk| absorb(chunk, &mut reply))
        .collect();
    assert_eq!(deltas.len(), 3);
    assert_eq!(
        reply,
        Reply {
            text: "ab".into(),
            reasoning: "hm".into(),
            finish_reason: Some("stop".into()),
            usage: json!({"completion_tokens": 2}),
            timings: json!({"predicted_n": 2}),
            ignored: Vec::new(),
        }
    );
}

#[test]
fn each_status_of_the_engine_has_its_code() {
    for (status, code, expected) in [
        (
            Some(400),
            json!("context_length_exceeded"),
            ErrorCode::ContextLengthExceeded,
        ),
        (Some(400), json!(null), ErrorCode::BadRequest),
        (Some(413), json!(null), ErrorCode::BadRequest),
        (
            Some(400),
            json!("unsupported_parameter"),
            ErrorCode::Unsupported,
        ),
        (None, json!("deadline_exceeded"), ErrorCode::Expired),
        (
            Some(404),
            json!("model_not_found"),
            ErrorCode::ModelNotFound,
        ),
        (Some(429), json!(null), ErrorCode::Busy),
        (Some(503), json!(null), ErrorCode::Unavailable),
        (Some(503), json!("unavailable"), ErrorCode::Unavailable),
        (None, json!("unavailable"), ErrorCode::BrokenOff),
        (Some(500), json!(null), ErrorCode::Internal),
        (
            None,
            json!("context_length_exceeded"),
            ErrorCode::ContextLengthExceeded,
        ),
        (None, json!(null), ErrorCode::Internal),
    ] {
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        let error = from_engine(status, &json!({"message": "m", "code": code}));
        assert_eq!(error, AskError::new(expected, "m"), "{status:?} {code}");
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unavailable() {
    let engine = Engine::at("/nonexistent/socket".into());
    let mut reply = Reply::default();
    let error = engine
        .chat("{}", None, &mut reply, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
}
