//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cloister_engine::{
    Closed, GenerateError, InvalidSampling, LoadError, PromptError, QueueFull, StoreError,
};
use serde_json::{Value, json};

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: None,
            retry_after: None,
        }
    }

    /// The request is wrong as a whole.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// One field of the request is wrong.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            code: Some("invalid_value"),
            ..Self::invalid(message)
        }
    }

    /// The field asks for something that this server cannot do.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: Some("unsupported_parameter"),
            ..Self::field(param, message)
        }
    }

    /// The field holds more tokens than the model takes.
    pub fn too_long(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::field(param, message)
        }
    }

    /// There is no such model.
    pub fn no_model(name: &str, have: &[String]) -> Self {
        Self {
            param: Some("model".to_owned()),
            code: Some("model_not_found"),
            ..Self::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no model {name:?} here; there is {}",
                    have.join(", ")
                ),
            )
        }
    }

    /// Nothing is at this path.
    pub fn not_found(path: &str) -> Self {
        Self {
            code: Some("not_found"),
            ..Self::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))
        }
    }

    /// The client may not do this.
    pub fn forbidden(message: &str) -> Self {
        Self {
            code: Some("forbidden"),
            ..Self::new(StatusCode::FORBIDDEN, message)
        }
    }

    /// Who asks is not known here.
    pub fn unauthorized(message: &str) -> Self {
        Self {
            code: Some("unauthorized"),
            ..Self::new(StatusCode::UNAUTHORIZED, message)
        }
    }

    /// The client asks more often than it may.
    pub fn too_often(seconds: u32) -> Self {
        Self {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many requests from this client: try again in {seconds} s"),
            )
        }
    }

    /// The body does not arrive in time.
    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body takes too long to arrive",
        )
    }

    /// The body is larger than the server takes.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// The body has more bytes than this path takes.
    pub fn body_too_large(most: usize) -> Self {
        Self::too_large(match most >> 20 {
            0 => format!("the body is larger than {most} bytes"),
            mib => format!("the body is larger than {mib} MiB"),
        })
    }

    /// The box cannot do its part.
    pub fn failed(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Not now; in a moment.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: Some("unavailable"),
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// Nobody is answered now.
    pub fn closed(why: Closed) -> Self {
        match why {
            Closed::Private => GenerateError::Private.into(),
            Closed::Unheard => GenerateError::Unheard.into(),
            Closed::TooHot => GenerateError::TooHot.into(),
        }
    }

    /// The same about a field that the request calls otherwise.
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        if let Some(param) = self.param.as_mut().filter(|param| param.starts_with(from)) {
            *param = param.replacen(from, to, 1);
            self.message = self.message.replace(from, to);
        }
        self
    }

    /// The same with more to say.
    pub fn with_hint(mut self, hint: &str) -> Self {
        self.message += hint;
        self
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened, and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same as a JSON value, for the inside of a stream.
    pub fn to_json(&self) -> Value {
        let kind = match self.status.as_u16() {
            429 => "rate_limit_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            503 => "unavailable_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let is_known = self.code == Some("model_load_failed");
        if self.status == StatusCode::REQUEST_TIMEOUT || is_known {
            // The openai packages ask again after a 408 and a 5xx: what came too late would be computed once more, and
            // what does not load would be tried once more.
            let never = HeaderValue::from_static("false");
            response.headers_mut().insert("x-should-retry", never);
        }
        // For whoever says it in another shape.
        response.extensions_mut().insert(self);
        response
    }
}

/// The path is right, the method is not.
pub async fn method_not_allowed() -> ApiError {
    ApiError {
        code: Some("method_not_allowed"),
        ..ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not take this method",
        )
    }
}

impl From<InvalidSampling> for ApiError {
    fn from(error: InvalidSampling) -> Self {
        Self::field(error.field, error.to_string())
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        let message = error.to_string();
        match error {
            // With room for a prompt and one token, it is the answer that is asked too long.
            PromptError::TooLong { prompt, n_ctx, .. } if prompt < n_ctx => {
                Self::too_long("max_tokens", message)
            }
            PromptError::TooLong { .. } | PromptError::TooManyBytes { .. } => {
                Self::too_long("messages", message)
            }
            PromptError::Template(_) => Self::field("messages", message),
            PromptError::NoStore | PromptError::EmptyTemplate => Self::field("cache", message),
            PromptError::NoTemplate | PromptError::NoThought => Self::invalid(message),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Prompt(error) => error.into(),
            StoreError::Queue(error) => error.into(),
        }
    }
}

impl From<QueueFull> for ApiError {
    fn from(error: QueueFull) -> Self {
        Self {
            code: Some("queue_full"),
            retry_after: Some(5),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Stopped | GenerateError::Unheard => Self::unavailable(error.to_string()),
            GenerateError::Private => Self {
                code: Some("privacy"),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            },
            GenerateError::TooHot => Self {
                code: Some("too_hot"),
                retry_after: Some(30),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            },
            GenerateError::StoppedByHand => Self {
                code: Some("stopped"),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            },
            GenerateError::Deadline => Self {
                code: Some("deadline_exceeded"),
                ..Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string())
            },
            GenerateError::Store(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
            GenerateError::Decode(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            GenerateError::Grammar(_) => Self {
                code: Some("grammar_too_complex"),
                ..Self::invalid(error.to_string())
            },
        }
    }
}

impl From<&LoadError> for ApiError {
    fn from(error: &LoadError) -> Self {
        match error {
            // Another model can be asked, this one not again: the openai packages repeat what gets a 5xx, and each
            // time the model that is loaded would have to go.
            LoadError::Memory { .. } | LoadError::Context { .. } => Self {
                code: Some("insufficient_memory"),
                ..Self::field("model", error.to_string())
            },
            _ => Self {
                code: Some("model_load_failed"),
                ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            },
        }
    }
}
