//! The web page: its files, and the Markdown renderer that it calls.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::api_error::ApiError;
use super::ask::body;
use super::fields::Fields;

/// `POST /api/render`: `{"text"}` in Markdown to `{"html"}`, sanitised.
pub async fn render(
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let text = fields
        .text("text")?
        .ok_or_else(|| ApiError::field("text", "text is missing"))?;
    fields.finish()?;
    // Long texts take a while; the threads that carry tokens should not wait for them.
    let html = tokio::task::spawn_blocking(move || cloister_page::render_markdown(&text))
        .await
        .map_err(|_| ApiError::invalid("this text cannot be rendered"))?;
    Ok(Json(json!({ "html": html })).into_response())
}

/// Whether a person opens a page in a browser, of which there is more than what is the same for everybody.
pub fn is_opened(request: &Request) -> bool {
    request.method() == Method::GET && accepts(request.headers(), header::ACCEPT, "text/html")
}

/// Everything that is no API path: the page's files.
pub async fn asset(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let wants_html = accepts(&headers, header::ACCEPT, "text/html");
    if method != Method::GET && method != Method::HEAD {
        return ApiError::not_found(uri.path()).into_response();
    }
    if uri.path() == "/" && !wants_html {
        // What Ollama says there; its clients look for it.
        return "Ollama is running".into_response();
    }
    let Some(asset) = cloister_page::asset(uri.path()) else {
        return ApiError::not_found(uri.path()).into_response();
    };
    let mut answer = HeaderMap::new();
    let fixed = [
        (header::CONTENT_TYPE, asset.content_type),
        (
            header::CONTENT_SECURITY_POLICY,
            cloister_page::CONTENT_SECURITY_POLICY,
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Else a browser may ask a name server for the hosts of links in answers before anybody follows them.
        (header::X_DNS_PREFETCH_CONTROL, "off"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, asset.etag),
        (header::VARY, "Accept, Accept-Encoding"),
    ];
    for (name, value) in fixed {
        answer.insert(name, HeaderValue::from_static(value));
    }
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known == asset.etag)
    {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    if accepts(&headers, header::ACCEPT_ENCODING, "gzip") {
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (answer, asset.gzip).into_response();
    }
    (answer, asset.bytes).into_response()
}

fn accepts(headers: &HeaderMap, name: header::HeaderName, what: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.contains(what)))
}
