//! Ollama's API, field by field as its clients read it, so that what was made for Ollama works with this box:
//! Home Assistant's integration and the `ollama` packages.
//!
//! Nothing is fetched: a pull of a model that is here succeeds, of another one fails.

mod answer;
mod embed;
pub mod error;
mod models;
pub mod request;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cloister_engine::Event;
use futures_core::Stream;
use serde_json::Value;

use super::api_error::ApiError;
use super::ask::body;
use super::models::Models;
use super::peer::{Asker, Peer};
use answer::{Answer, Shape};
use request::{OllamaRequest, Wanted};

/// The paths.
pub fn routes() -> Router<Arc<Models>> {
    Router::new()
        .route("/api/version", get(models::version))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::ps))
        .route("/api/show", post(models::show))
        .route("/api/pull", post(models::pull))
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
}

type Result<T> = std::result::Result<T, ApiError>;

/// `POST /api/chat`.
async fn chat(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let request = OllamaRequest::chat(&body(&headers, bytes)?)?;
    respond(&models, request, peer.asker(&headers), Shape::Chat).await
}

/// `POST /api/generate`.
async fn generate(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let request = OllamaRequest::generate(&body(&headers, bytes)?)?;
    respond(&models, request, peer.asker(&headers), Shape::Generate).await
}

async fn respond(
    models: &Arc<Models>,
    request: OllamaRequest,
    asker: Asker,
    shape: Shape,
) -> Result<Response> {
    let began = Instant::now();
    let ask = match request.wanted {
        Wanted::Answer(ask) => *ask,
        Wanted::Load { model } => {
            let (model, stay) = (model.as_deref(), request.stay);
            let engine = models.engine_for(model, &asker.client, stay).await?;
            let answer = Answer::new(shape, &engine.info().id);
            return Ok(Json(answer.without_text("load")).into_response());
        }
        Wanted::Unload { model } => {
            let name = match asker.admin {
                true => models.rest(model.as_deref()).await?,
                // Others may still want it.
                false => models.let_go(model.as_deref(), &asker.client)?,
            };
            return Ok(Json(Answer::new(shape, &name).without_text("unload")).into_response());
        }
    };
    let (model, stay) = (ask.model.as_deref(), request.stay);
    let engine = models.engine_for(model, &asker.client, stay).await?;
    let loading = began.elapsed();
    let submitted = ask.submit_to(engine, models.reasoning_budget(), asker);
    let asked = submitted.await?;
    let (engine, mut generation) = (asked.engine, asked.generation);
    let answer = Answer::new(shape, &engine.info().id);
    if request.stream {
        return Ok(lines(async_stream::stream! {
            // Holding it keeps the model loaded.
            let _engine = engine;
            while let Some(event) = generation.next().await {
                match event {
                    Event::Queued { .. } | Event::Prefill { .. } => {}
                    Event::Text { content, reasoning } => yield answer.piece(&content, &reasoning),
                    Event::Call(call) => yield answer.calls(&[call]),
                    Event::Done(completion) => {
                        yield answer.end(answer.piece("", ""), &completion, began.elapsed(), loading);
                        return;
                    }
                    Event::Failed(error) => {
                        yield error::to_json(&error.into());
                        return;
                    }
                }
            }
            yield error::to_json(&error::unloaded());
        }));
    }
    let (mut text, mut thought, mut calls) = (String::new(), String::new(), Vec::new());
    while let Some(event) = generation.next().await {
        match event {
            Event::Queued { .. } | Event::Prefill { .. } => {}
            Event::Text { content, reasoning } => {
                text += &content;
                thought += &reasoning;
            }
            Event::Call(call) => calls.push(call),
            Event::Done(completion) => {
                let mut said = answer.piece(&text, &thought);
                if !calls.is_empty() {
                    said["message"]["tool_calls"] =
                        answer.calls(&calls)["message"]["tool_calls"].take();
                }
                let answer = answer.end(said, &completion, began.elapsed(), loading);
                return Ok(Json(answer).into_response());
            }
            Event::Failed(error) => return Err(error.into()),
        }
    }
    Err(error::unloaded())
}

/// JSON values, one a line.
fn lines(values: impl Stream<Item = Value> + Send + 'static) -> Response {
    let lines = async_stream::stream! {
        for await value in values {
            yield Ok::<_, Infallible>(format!("{value}\n"));
        }
    };
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

/// A point in time as Ollama writes it.
fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// Nanoseconds.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
