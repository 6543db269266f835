//! What models there are, in Ollama's words: `/api/tags`, `/api/ps`, `/api/show`, `/api/pull`, `/api/version`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use cloister_engine::Card;
use cloister_gguf::{Gguf, Metadata, Value as GgufValue};
use serde_json::{Map, Value, json};

use super::{Result, lines, timestamp};
use crate::serve::api_error::ApiError;
use crate::serve::ask::body;
use crate::serve::fields::Fields;
use crate::serve::models::Models;

/// The version of Ollama whose API this is: clients ask before they use what is newer.
const OLLAMA_VERSION: &str = "0.12.6";

/// Of a model that stays until another one is asked for.
const FOR_EVER: &str = "2318-01-01T00:00:00Z";

/// `GET /api/version`.
pub async fn version() -> Json<Value> {
    Json(json!({"version": OLLAMA_VERSION}))
}

/// `GET /api/tags`: the models that there are.
pub async fn tags(State(models): State<Arc<Models>>) -> Json<Value> {
    let cards = models.cards().await;
    let list: Vec<Value> = cards.iter().map(|card| listed(card)).collect();
    Json(json!({"models": list}))
}

/// `GET /api/ps`: the models that are loaded.
pub async fn ps(State(models): State<Arc<Models>>) -> Json<Value> {
    let answering = models.current().filter(|engine| engine.runs());
    let answering = answering.map(|engine| {
        let info = engine.info();
        let ends = models.idle().ends();
        (info.path.clone(), info.memory, info.n_ctx as usize, ends)
    });
    let embedding = models.embedders().current().map(|embedder| {
        let info = embedder.info();
        let ends = models.embedders().idle().ends();
        (info.path.clone(), info.memory, info.n_ctx, ends)
    });
    let cards = models.cards().await;
    let mut list = Vec::new();
    for (path, memory, n_ctx, ends) in answering.into_iter().chain(embedding) {
        let Some(card) = cards.iter().find(|card| card.path == path) else {
            continue;
        };
        let mut model = listed(card);
        model["size"] = memory.into();
        // There is no other memory than the machine's.
        model["size_vram"] = 0.into();
        model["expires_at"] = ends.map_or(FOR_EVER.to_owned(), timestamp).into();
        model["context_length"] = n_ctx.into();
        list.push(model);
    }
    Json(json!({"models": list}))
}

fn listed(card: &Card) -> Value {
    let name = format!("{}:latest", card.id);
    json!({
        "name": name,
        "model": name,
        "modified_at": timestamp(card.modified),
        "size": card.bytes,
        "digest": card.digest,
        "details": details(card),
    })
}

fn details(card: &Card) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": card.architecture,
        "families": [card.architecture],
        "parameter_size": parameter_size(card.n_params),
        "quantization_level": card.quantization,
    })
}

/// A number of weights as Ollama writes it: `134.52M`, `1.5B`.
fn parameter_size(n: u64) -> String {
    match n as f64 {
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e3 => format!("{:.0}K", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// The name that a body of `/api/show` or `/api/pull` asks for; `name` is the older field.
fn named(fields: &mut Fields) -> std::result::Result<String, ApiError> {
    let (model, name) = (fields.text("model")?, fields.text("name")?);
    let named = model.or(name).filter(|name| !name.is_empty());
    named.ok_or_else(|| ApiError::field("model", "model is missing: say which one"))
}

/// `POST /api/show`: everything about one model.
pub async fn show(
    State(models): State<Arc<Models>>,
    headers: HeaderMap,
    bytes: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let name = named(&mut fields)?;
    let verbose = fields.flag("verbose")?;
    fields.ignore(&["system", "template", "options"]);
    fields.finish()?;
    let card = models.card(&name).await?;
    let path = card.path.clone();
    let read = tokio::task::spawn_blocking(move || Gguf::open_header(&path));
    let file = read.await.expect("reading does not panic");
    let file = file.map_err(|error| ApiError::unavailable(error.to_string()))?;
    let mut info = model_info(&file.metadata, verbose);
    info.insert("general.parameter_count".to_owned(), card.n_params.into());
    let mut capabilities = match card.pooling.embeds() {
        true => vec!["embedding"],
        // A model whose template has no place for tools is told of them in its system message.
        false => vec!["completion", "tools"],
    };
    if card.thinks && !card.pooling.embeds() {
        capabilities.push("thinking");
    }
    let template = file
        .metadata
        .str("tokenizer.chat_template")
        .unwrap_or_default();
    let license = file.metadata.str("general.license").unwrap_or_default();
    Ok(Json(json!({
        "license": license,
        "modelfile": format!("FROM {}\n", card.id),
        "parameters": "",
        "template": template,
        "details": details(&card),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": timestamp(card.modified),
    }))
    .into_response())
}

/// The metadata of the file. Arrays are left out unless asked for: a vocabulary has megabytes.
fn model_info(metadata: &Metadata, arrays: bool) -> Map<String, Value> {
    let template = "tokenizer.chat_template";
    let entries = metadata.iter().filter(|(key, _)| *key != template);
    let entries = entries.map(|(key, value)| (key.to_owned(), metadata_value(value, arrays)));
    entries.collect()
}

fn metadata_value(value: &GgufValue, arrays: bool) -> Value {
    use cloister_gguf::Array;
    match value {
        GgufValue::U8(n) => (*n).into(),
        GgufValue::I8(n) => (*n).into(),
        GgufValue::U16(n) => (*n).into(),
        GgufValue::I16(n) => (*n).into(),
        GgufValue::U32(n) => (*n).into(),
        GgufValue::I32(n) => (*n).into(),
        GgufValue::U64(n) => (*n).into(),
        GgufValue::I64(n) => (*n).into(),
        GgufValue::F32(n) => (*n).into(),
        GgufValue::F64(n) => (*n).into(),
        GgufValue::Bool(flag) => (*flag).into(),
        GgufValue::String(text) => text.as_str().into(),
        GgufValue::Array(_) if !arrays => Value::Null,
        GgufValue::Array(array) => match array {
            Array::U8(list) => json!(list),
            Array::I8(list) => json!(list),
            Array::U16(list) => json!(list),
            Array::I16(list) => json!(list),
            Array::U32(list) => json!(list),
            Array::I32(list) => json!(list),
            Array::U64(list) => json!(list),
            Array::I64(list) => json!(list),
            Array::F32(list) => json!(list),
            Array::F64(list) => json!(list),
            Array::Bool(list) => json!(list),
            Array::String(list) => {
                let text = list.iter().map(String::from_utf8_lossy);
                json!(text.collect::<Vec<_>>())
            }
        },
    }
}

/// `POST /api/pull`: success for a model that is here; nothing is ever fetched.
pub async fn pull(
    State(models): State<Arc<Models>>,
    headers: HeaderMap,
    bytes: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let name = named(&mut fields)?;
    let stream = match fields.has("stream") {
        false => true,
        true => fields.flag("stream")?,
    };
    fields.ignore(&["insecure", "username", "password"]);
    fields.finish()?;
    models.card(&name).await.map_err(|error| {
        error.with_hint("; this box fetches nothing: put the file there yourself")
    })?;
    let done = json!({"status": "success"});
    if !stream {
        return Ok(Json(done).into_response());
    }
    Ok(lines(async_stream::stream! { yield done; }))
}
