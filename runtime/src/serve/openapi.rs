//! `/openapi.json`: what can be asked here, and what is answered.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::scopes::{Needs, needs};

/// The document, with what each path needs of a client of the network.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let text = include_str!("openapi.json");
    let mut document: Value = serde_json::from_str(text).expect("the file is JSON");
    document["components"]["securitySchemes"] = json!({
        "key": {"type": "http", "scheme": "bearer", "description": "A key of `cloister keys add`."},
        "browser": {"type": "apiKey", "in": "cookie", "name": super::pair::COOKIE, "description": "What a paired browser got."},
    });
    let paths = document["paths"].as_object_mut().expect("it has paths");
    for (path, operations) in paths {
        let security = match needs(path) {
            Needs::Nothing => json!([]),
            // From the machine itself nothing is needed.
            Needs::Scope(scope) => {
                json!([{}, {"key": [scope.name()]}, {"browser": [scope.name()]}])
            }
        };
        for operation in operations
            .as_object_mut()
            .expect("a path has methods")
            .values_mut()
        {
            operation["security"] = security.clone();
        }
    }
    document.to_string()
});

/// `GET /openapi.json`.
pub async fn document() -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, DOCUMENT.as_str())
}
