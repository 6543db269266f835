//! `POST /v1/chat/completions`, as OpenAI's clients speak it, with llama-server's extras: reasoning
//! in `reasoning_content`, `timings`, and `prompt_progress` while the prompt is read.

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
use futures_core::Stream;
use serde_json::Value;

use super::api_error::ApiError;
use super::ask::{Asked, body};
use super::models::Models;
use super::peer::Peer;
use answer::{Answer, Chunks};
use request::ChatRequest;

/// `POST /v1/chat/completions`.
pub async fn completions(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let asker = peer.asker(&headers);
    let request = ChatRequest::parse(&body(&headers, bytes)?)?;
    let (streamed, progress, usage) = (
        request.stream,
        request.return_progress,
        request.include_usage,
    );
    let asked = request.ask.submit(&models, asker).await?;
    if streamed {
        let stream = stream(asked, progress, usage);
        return Ok(Sse::new(stream)
            .keep_alive(KeepAlive::default())
            .into_response());
    }
    whole(asked)
        .await
        .map(|answer| Json(answer).into_response())
}

/// Waits for the whole answer. Dropping this future cancels the request.
async fn whole(mut asked: Asked) -> Result<Value, ApiError> {
    let mut answer = Answer::new(&asked.engine.info().id, asked.cut);
    while let Some(event) = asked.generation.next().await {
        match event {
            Event::Queued { .. } | Event::Prefill { .. } => {}
            Event::Text { content, reasoning } => answer.push(&content, &reasoning),
            Event::Call(call) => answer.call(&call),
            Event::Done(completion) => return Ok(answer.finish(&completion)),
            Event::Failed(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable("the model was unloaded"))
}

/// The answer as it comes. Dropping the stream cancels the request.
fn stream(
    mut asked: Asked,
    progress: bool,
    usage: bool,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    let data = |value: Value| Ok(SseEvent::default().data(value.to_string()));
    async_stream::stream! {
        let mut chunks = Chunks::new(&asked.engine.info().id);
        if let Some(cut) = asked.cut {
            yield data(chunks.truncated(cut));
        }
        while let Some(event) = asked.generation.next().await {
            match event {
                Event::Queued { position } if progress => yield data(chunks.queue(position)),
                Event::Prefill { total, cached, processed, elapsed } if progress => {
                    yield data(chunks.prompt_progress(total, cached, processed, elapsed));
                }
                Event::Queued { .. } | Event::Prefill { .. } => {}
                Event::Text { content, reasoning } => yield data(chunks.text(&content, &reasoning)),
                Event::Call(call) => yield data(chunks.call(&call)),
                Event::Done(completion) => {
                    if let Some(begin) = chunks.begin() {
                        yield data(begin);
                    }
                    yield data(chunks.finish(&completion));
                    if usage {
                        yield data(chunks.usage(&completion));
                    }
                    yield Ok(SseEvent::default().data("[DONE]"));
                    return;
                }
                Event::Failed(error) => {
                    yield data(ApiError::from(error).to_json());
                    return;
                }
            }
        }
        yield data(ApiError::unavailable("the model was unloaded").to_json());
    }
}
