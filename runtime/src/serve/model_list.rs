//! `GET /v1/models`: what there is, and `GET /health`: whether it can be asked.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{self, State};
use axum::response::IntoResponse;
use cloister_engine::id_of;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::models::{Condition, Models};

/// `GET /v1/models`.
pub async fn list(State(models): State<Arc<Models>>) -> Json<Value> {
    let mut data = Vec::new();
    for file in models.files().unwrap_or_default() {
        data.push(describe(&models, &file).await);
    }
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{id}`.
pub async fn show(
    State(models): State<Arc<Models>>,
    name: Result<extract::Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let extract::Path(name) =
        name.map_err(|_| ApiError::invalid("the name of the model in the path is not UTF-8"))?;
    let files = models.files().unwrap_or_default();
    match files.iter().find(|file| id_of(file) == name) {
        Some(file) => Ok(Json(describe(&models, file).await)),
        None => Err(ApiError::no_model(&name, &models.ids())),
    }
}

async fn describe(models: &Models, file: &Path) -> Value {
    let about = std::fs::metadata(file).ok();
    let created = about
        .as_ref()
        .and_then(|about| about.modified().ok()?.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_secs());
    let embeds = models.embeds(file).await;
    let answering = models.current().filter(|one| one.info().path == file);
    let embedding = models.embedders().current();
    let embedding = embedding.filter(|one| one.info().path == file);
    let meta = match (&answering, &embedding) {
        (Some(engine), _) => {
            let info = engine.info();
            json!({
                "n_params": info.n_params,
                "size": info.size,
                "n_ctx_train": info.n_ctx_train,
                "n_ctx": info.n_ctx,
                "architecture": info.architecture,
                "quantization": info.quantization,
            })
        }
        (None, Some(embedder)) => {
            let info = embedder.info();
            json!({"n_embd": info.n_embd, "n_ctx": info.n_ctx})
        }
        (None, None) => Value::Null,
    };
    json!({
        "id": id_of(file),
        "object": "model",
        "created": created,
        "owned_by": "cloister",
        "bytes": about.map(|about| about.len()),
        // As llama-server and Ollama call it.
        "capabilities": [if embeds { "embedding" } else { "completion" }],
        "loaded": !meta.is_null(),
        "meta": meta,
    })
}

/// `GET /health`: 200 while a model is loaded, or none need be.
pub async fn health(State(models): State<Arc<Models>>) -> impl IntoResponse {
    match models.condition() {
        Condition::Well => Ok(Json(json!({"status": "ok"}))),
        Condition::Loading => Err(ApiError::unavailable("the model is being loaded")),
        Condition::Failed => Err(ApiError::unavailable(
            "the model has failed; the next request loads it again",
        )),
        Condition::Empty => Err(ApiError::unavailable(
            "no model is loaded; the next request loads one",
        )),
    }
}
