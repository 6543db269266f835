//! Errors in Ollama's shape: `{"error": "what happened"}`, whoever found them.

use axum::Json;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;

/// What begins so below `/api/` is this box's own; all else there is Ollama's, whether it is here or not.
const OUR_OWN: [&str; 5] = [
    "/api/box",
    "/api/events",
    "/api/panel",
    "/api/privacy",
    "/api/render",
];

/// For the inside of a stream.
pub fn to_json(error: &ApiError) -> Value {
    json!({"error": error.message()})
}

/// The model went away while it answered.
pub fn unloaded() -> ApiError {
    ApiError::unavailable("the model was unloaded")
}

/// Gives errors on Ollama's paths the shape that its clients read.
pub async fn in_its_shape(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ollamas = path.starts_with("/api/") && !OUR_OWN.iter().any(|own| path.starts_with(own));
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<ApiError>() {
        Some(error) if is_ollamas => {
            let (mut head, _) = response.into_parts();
            head.headers.remove(header::CONTENT_LENGTH);
            (head, Json(to_json(&error))).into_response()
        }
        _ => response,
    }
}
