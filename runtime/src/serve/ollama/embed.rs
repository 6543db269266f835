//! Vectors in Ollama's words: `/api/embed`, and `/api/embeddings`, which was before it.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::request::keep_alive;
use super::{Result, nanos};
use crate::serve::ask::body;
use crate::serve::embeddings::Wanted;
use crate::serve::fields::Fields;
use crate::serve::models::Models;
use crate::serve::peer::Peer;

/// `POST /api/embed`. With nothing to embed the model is loaded.
pub async fn embed(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: std::result::Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let began = Instant::now();
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let stay = keep_alive(fields.take("keep_alive"))?;
    // Ollama cuts unless told otherwise; here it must be asked for.
    let truncate = fields.flag("truncate")?;
    let nothing = !fields.has("input") || fields.get("input") == Some(&json!(""));
    if nothing {
        fields.set("input", json!([]));
    }
    // How the engine runs is the owner's choice.
    fields.ignore(&["options"]);
    let wanted = Wanted::parse(&mut fields)?;
    fields.finish()?;
    let wanted = Wanted {
        truncate,
        stay,
        ..wanted
    };
    let embedded = wanted.embed(&models, peer.asker(&headers).client).await?;
    Ok(Json(json!({
        "model": embedded.model,
        "embeddings": embedded.vectors,
        "total_duration": nanos(began.elapsed()),
        "load_duration": nanos(embedded.loading),
        "prompt_eval_count": embedded.tokens,
    })))
}

/// `POST /api/embeddings`: one text, whose vector is as the model makes it.
pub async fn embeddings(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: std::result::Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let stay = keep_alive(fields.take("keep_alive"))?;
    let model = fields.text("model")?;
    let prompt = fields.text("prompt")?.unwrap_or_default();
    fields.ignore(&["options"]);
    fields.finish()?;
    let wanted = Wanted {
        model,
        texts: [prompt]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect(),
        truncate: false,
        dimensions: None,
        normalized: false,
        stay,
    };
    let embedded = wanted.embed(&models, peer.asker(&headers).client).await?;
    let vector = embedded.vectors.into_iter().next();
    Ok(Json(json!({"embedding": vector.unwrap_or_default()})))
}
