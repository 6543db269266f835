//! `POST /v1/responses`, as OpenAI's clients speak it, without a memory: each request brings its whole conversation.

mod answer;
pub mod request;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cloister_engine::Event;
use serde_json::Value;

use super::api_error::ApiError;
use super::ask::body;
use super::models::Models;
use super::peer::Peer;
use answer::Output;
use request::ResponsesRequest;

/// `POST /v1/responses`.
pub async fn responses(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let asker = peer.asker(&headers);
    let ResponsesRequest { ask, stream, echo } = ResponsesRequest::parse(&body(&headers, bytes)?)?;
    let asked = ask.submit(&models, asker).await;
    let asked = asked.map_err(|error| {
        error
            .renamed("messages", "input")
            .renamed("max_tokens", "max_output_tokens")
    })?;
    let (engine, mut generation) = (asked.engine, asked.generation);
    let mut output = Output::new(&engine.info().id, echo, asked.cut);
    if !stream {
        while let Some(event) = generation.next().await {
            match event {
                Event::Queued { .. } | Event::Prefill { .. } => {}
                Event::Text { content, reasoning } => drop(output.text(&content, &reasoning)),
                Event::Call(call) => drop(output.call(&call)),
                Event::Done(completion) => {
                    output.close();
                    return Ok(Json(output.response(Some(&completion))).into_response());
                }
                Event::Failed(error) => return Err(error.into()),
            }
        }
        return Err(ApiError::unavailable("the model was unloaded"));
    }
    let stream = async_stream::stream! {
        // Holding it keeps the model loaded.
        let _engine = engine;
        for event in output.begin() {
            yield sse(&event);
        }
        while let Some(event) = generation.next().await {
            let (events, last) = match event {
                Event::Queued { .. } | Event::Prefill { .. } => continue,
                Event::Text { content, reasoning } => (output.text(&content, &reasoning), false),
                Event::Call(call) => (output.call(&call), false),
                Event::Done(completion) => (output.end(&completion), true),
                Event::Failed(error) => (output.fail(&error.into()), true),
            };
            for event in events {
                yield sse(&event);
            }
            if last {
                return;
            }
        }
        for event in output.fail(&ApiError::unavailable("the model was unloaded")) {
            yield sse(&event);
        }
    };
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::default())
        .into_response())
}

fn sse(event: &Value) -> Result<SseEvent, Infallible> {
    let name = event["type"].as_str().unwrap_or_default();
    Ok(SseEvent::default().event(name).data(event.to_string()))
}
