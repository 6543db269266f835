//! Errors in Ollama's shape: `{"error": "what happened"}`.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;

/// An answer that is an error.
#[derive(Debug)]
pub struct OllamaError(ApiError);

impl OllamaError {
    /// The model went away while it answered.
    pub fn unloaded() -> Self {
        Self(ApiError::unavailable("the model was unloaded"))
    }

    /// For the inside of a stream.
    pub fn to_json(&self) -> Value {
        json!({"error": self.0.message()})
    }
}

impl<E: Into<ApiError>> From<E> for OllamaError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        let mut response = (self.0.status(), Json(self.to_json())).into_response();
        if let Some(seconds) = self.0.retry_after() {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
