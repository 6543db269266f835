//! What is answered where.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};

use super::files::Files;
use super::gate::{self, Gate};
use super::models::Models;
use super::notices::Notices;
use super::panel::{self, Panel};
use super::privacy::{self, Ledger};
use super::{
    api_error, chat, embeddings, events, files, metrics, model_list, ollama, openapi, page, pair,
    responses,
};

pub fn router(
    models: Arc<Models>,
    ledger: Arc<Ledger>,
    panel: Arc<Panel>,
    (files, notices): (Arc<Files>, Arc<Notices>),
    gate: Arc<Gate>,
) -> Router {
    Router::new()
        .route(
            "/pair",
            post(pair::pair).with_state(gate.clone()).get(page::asset),
        )
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/embeddings", post(embeddings::openai))
        .route("/v1/models", get(model_list::list))
        .route("/v1/models/{id}", get(model_list::show))
        .route("/health", get(model_list::health))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", get(metrics::metrics).with_state(panel.clone()))
        .route(
            "/api/events",
            get(events::events).with_state((panel.clone(), notices)),
        )
        .route(
            "/api/box/files/{name}",
            put(files::put).with_state(files.clone()),
        )
        .route(
            "/api/box/files/{name}",
            delete(files::remove::remove).with_state((files, models.clone())),
        )
        .route("/api/panel", put(panel::tell).with_state(panel.clone()))
        .route(
            "/api/panel/test",
            post(panel::test).with_state(panel.clone()),
        )
        .route(
            "/api/panel/door",
            get(panel::door).with_state(panel.clone()),
        )
        .route(
            "/api/panel/pair",
            post(panel::pair).with_state(panel.clone()),
        )
        .route("/api/panel/stop", post(panel::stop).with_state(panel))
        .route("/api/render", post(page::render))
        .route(
            "/api/privacy",
            get(privacy::show).with_state(ledger.clone()),
        )
        .route(
            "/api/privacy/report",
            post(privacy::report).with_state(ledger.clone()),
        )
        .route(
            "/api/privacy/erase",
            post(privacy::erase).with_state(ledger),
        )
        .merge(ollama::routes())
        .fallback(page::asset)
        .method_not_allowed_fallback(api_error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(gate, gate::pass))
        // The gate has read it already, with limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn(ollama::error::in_its_shape))
        .with_state(models)
}
