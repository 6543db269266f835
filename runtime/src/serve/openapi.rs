//! `/openapi.json`: what can be asked here, and what is answered.

use axum::http::header;
use axum::response::IntoResponse;

/// `GET /openapi.json`.
pub async fn document() -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, include_str!("openapi.json"))
}
