//! Embeddings, which models that answer do not have: these are refused by their name.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use super::api_error::ApiError;
use super::ask::body;
use super::fields::Fields;
use super::models::Models;

/// `POST /v1/embeddings`.
pub async fn openai(
    State(models): State<Arc<Models>>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    fields.ignore(&["encoding_format", "user"]);
    refuse(&models, fields)
}

/// Says what is wrong with the request, or else that the model is made for answers.
pub fn refuse(models: &Models, mut fields: Fields) -> Result<Response, ApiError> {
    let model = fields.text("model")?;
    if fields.take("input").is_none() {
        return Err(ApiError::field(
            "input",
            "input is missing: say what to embed",
        ));
    }
    fields.ignore(&["dimensions"]);
    fields.finish()?;
    let name = models.name(model.as_deref())?;
    Err(ApiError::unsupported(
        "model",
        format!("{name} answers and does not embed: this box has no model made for embeddings"),
    ))
}
