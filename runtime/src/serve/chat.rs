//! `POST /v1/chat/completions`, as OpenAI's clients speak it, with llama-server's extras: reasoning
//! in `reasoning_content`, `timings`, and `prompt_progress` while the prompt is read.

mod answer;
mod request;
mod thinking;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cloister_engine::{Client, Conversation, Engine, Event, Generation};
use futures_core::Stream;
use serde_json::Value;

use super::api_error::ApiError;
use super::models::Models;
use super::peer::Peer;
use answer::{Answer, Chunks};
use request::ChatRequest;

/// The body of a request, which must be JSON.
pub fn body(headers: &HeaderMap, bytes: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    // A form of another site can send any text without asking first, but not this content type.
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/json") {
        return Err(ApiError::invalid(
            "send the request with the header Content-Type: application/json",
        ));
    }
    bytes.map_err(|error| {
        if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::too_large(format!(
                "the body is larger than {} MiB",
                super::MAX_BODY >> 20
            ))
        } else {
            ApiError::invalid(format!("the body did not arrive: {error}"))
        }
    })
}

/// `POST /v1/chat/completions`.
pub async fn completions(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let client = peer.client(&headers);
    let request = ChatRequest::parse(&body(&headers, bytes)?)?;
    let engine = models.engine(request.model.as_deref()).await?;
    request.thinking.check(engine.info())?;
    let budget = request.thinking.budget(models.reasoning_budget());
    let (streamed, progress, usage) = (
        request.stream,
        request.return_progress,
        request.include_usage,
    );
    // Tokenizing a long prompt takes a while; the threads that carry tokens should not wait for it.
    let (engine, generation) = tokio::task::spawn_blocking(move || {
        submit(&engine, request, client, budget).map(|g| (engine, g))
    })
    .await
    .map_err(|_| ApiError::invalid("this request cannot be turned into a prompt"))??;
    if streamed {
        let stream = stream(engine, generation, progress, usage);
        return Ok(Sse::new(stream)
            .keep_alive(KeepAlive::default())
            .into_response());
    }
    whole(&engine, generation)
        .await
        .map(|answer| Json(answer).into_response())
}

fn submit(
    engine: &Engine,
    request: ChatRequest,
    client: Client,
    thinking_budget: Option<usize>,
) -> Result<Generation, ApiError> {
    let prompt = engine.prompt(&Conversation {
        messages: request.messages,
        think: request.thinking.think,
    })?;
    let max_tokens = engine.max_tokens(&prompt, request.max_tokens)?;
    Ok(engine.submit(cloister_engine::Request {
        sampling: request.sampling,
        thinking_budget,
        stop: request.stop,
        ..cloister_engine::Request::new(prompt, max_tokens, client)
    })?)
}

/// Waits for the whole answer. Dropping this future cancels the request.
async fn whole(engine: &Engine, mut generation: Generation) -> Result<Value, ApiError> {
    let mut answer = Answer::new(&engine.info().id);
    while let Some(event) = generation.next().await {
        match event {
            Event::Queued { .. } | Event::Prefill { .. } => {}
            Event::Text { content, reasoning } => answer.push(&content, &reasoning),
            Event::Done(completion) => return Ok(answer.finish(&completion)),
            Event::Failed(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable("the model was unloaded"))
}

/// The answer as it comes. Dropping the stream cancels the request; holding `engine` keeps the model
/// loaded until then.
fn stream(
    engine: Arc<Engine>,
    mut generation: Generation,
    progress: bool,
    usage: bool,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    let data = |value: Value| Ok(SseEvent::default().data(value.to_string()));
    async_stream::stream! {
        let mut chunks = Chunks::new(&engine.info().id);
        while let Some(event) = generation.next().await {
            match event {
                Event::Queued { position } if progress => yield data(chunks.queue(position)),
                Event::Prefill { total, cached, processed, elapsed } if progress => {
                    yield data(chunks.prompt_progress(total, cached, processed, elapsed));
                }
                Event::Queued { .. } | Event::Prefill { .. } => {}
                Event::Text { content, reasoning } => yield data(chunks.text(&content, &reasoning)),
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
