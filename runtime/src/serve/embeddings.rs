//! `POST /v1/embeddings`, as OpenAI's clients speak it, and what Ollama's paths have in common with it: texts become
//! vectors.
//!
//! A text that is too long is refused, unless the request says that it may be cut; fewer `dimensions` than the model
//! has are its first ones, brought to length 1 again, as Ollama has it: of use with models that were trained for that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cloister_engine::{Client, EmbedError};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::ask::body;
use super::fields::Fields;
use super::idle::Stay;
use super::models::Models;
use super::peer::Peer;

/// Most texts of one request, as with OpenAI.
const MAX_TEXTS: usize = 2048;

/// Most numbers of a vector that anybody may ask for.
const MAX_DIMENSIONS: i64 = 1 << 20;

/// Texts, and how their vectors are wanted.
pub struct Wanted {
    pub model: Option<String>,
    pub texts: Vec<String>,
    /// Whether what is too long may be cut.
    pub truncate: bool,
    /// Numbers of a vector; none says as many as the model makes.
    pub dimensions: Option<usize>,
    /// Whether vectors are brought to length 1.
    pub normalized: bool,
    /// How long the model is to stay afterwards, where the request says so.
    pub stay: Option<Stay>,
}

/// What has become of it.
pub struct Embedded {
    /// The name of the model.
    pub model: String,
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub tokens: usize,
    /// What it took to have the model there.
    pub loading: Duration,
}

impl Wanted {
    /// Takes the fields that OpenAI's and Ollama's requests have in common.
    pub fn parse(fields: &mut Fields) -> Result<Self, ApiError> {
        let dimensions = fields.integer("dimensions", 1, MAX_DIMENSIONS)?;
        Ok(Self {
            model: fields.text("model")?,
            texts: texts(fields.take("input"))?,
            truncate: false,
            dimensions: dimensions.map(|n| n as usize),
            normalized: true,
            stay: None,
        })
    }

    /// Has the texts embedded. Dropping this future cancels the request.
    pub async fn embed(self, models: &Arc<Models>, client: Client) -> Result<Embedded, ApiError> {
        let began = Instant::now();
        let embedder = models
            .embedder(self.model.as_deref(), &client, self.stay)
            .await?;
        let (loading, info) = (began.elapsed(), embedder.info().clone());
        if let Some(n) = self.dimensions.filter(|n| *n > info.n_embd) {
            let message = format!(
                "{} makes vectors of {} dimensions, not {n}",
                info.id, info.n_embd
            );
            return Err(ApiError::field("dimensions", message));
        }
        let (texts, truncate) = (self.texts, self.truncate);
        // Tokenizing takes a while; the threads that carry tokens should not wait for it.
        let submitted = tokio::task::spawn_blocking(move || {
            let alone = texts.len() == 1;
            let ready = texts.iter().enumerate().map(|(i, text)| {
                let at = || {
                    if alone {
                        "input".to_owned()
                    } else {
                        format!("input[{i}]")
                    }
                };
                let ready = embedder.text(text, truncate);
                ready.map_err(|error| ApiError::from_text(&at(), &error))
            });
            let ready = ready.collect::<Result<Vec<_>, _>>()?;
            let tokens = ready.iter().map(|text| text.len()).sum::<usize>();
            // Holding it keeps the model loaded.
            Ok::<_, ApiError>((embedder.embed(ready, client)?, tokens, embedder))
        });
        let failed = |_| ApiError::invalid("this request cannot be turned into tokens");
        let (embedding, tokens, _embedder) = submitted.await.map_err(failed)??;
        let mut vectors = embedding.vectors().await?;
        for vector in &mut vectors {
            vector.truncate(self.dimensions.unwrap_or(info.n_embd));
            if self.normalized {
                normalize(vector);
            }
        }
        Ok(Embedded {
            model: info.id,
            vectors,
            tokens,
            loading,
        })
    }
}

impl ApiError {
    fn from_text(at: &str, error: &EmbedError) -> Self {
        let message = format!("{at} cannot be embedded: {error}");
        match error {
            EmbedError::Empty => Self::field(at, message),
            EmbedError::TooLong { .. } | EmbedError::TooManyBytes { .. } => {
                Self::too_long(at, message)
            }
        }
    }
}

/// One text or a list of them.
fn texts(input: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = |message: &str| ApiError::field("input", message);
    let list = match input {
        None => return Err(wrong("input is missing: say what to embed")),
        Some(Value::String(text)) => return Ok(vec![text]),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong("input must be a string or an array of strings")),
    };
    if list.len() > MAX_TEXTS {
        return Err(wrong(&format!("there may be {MAX_TEXTS} texts at most")));
    }
    if list.iter().any(|text| text.is_number() || text.is_array()) {
        // LangChain sends those of OpenAI's vocabulary unless told `check_embedding_ctx_length=False`.
        return Err(wrong(
            "input has numbers of tokens, which mean something else in each model's vocabulary: send text",
        ));
    }
    let texts = list.into_iter().map(|text| match text {
        Value::String(text) => Ok(text),
        _ => Err(wrong("input must be a string or an array of strings")),
    });
    texts.collect()
}

/// To length 1. A vector of zeros, or one that has a number which is none, stays.
fn normalize(vector: &mut [f32]) {
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    let length = vector.iter().map(square).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        for x in vector {
            *x = (f64::from(*x) / length) as f32;
        }
    }
}

/// `POST /v1/embeddings`.
pub async fn openai(
    State(models): State<Arc<Models>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let asker = peer.asker(&headers);
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let encoded = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let field = "encoding_format";
            let message = "encoding_format must be float or base64";
            return Err(ApiError::field(field, message));
        }
    };
    fields.ignore(&["user"]);
    let wanted = Wanted::parse(&mut fields)?;
    fields.finish()?;
    if wanted.texts.is_empty() {
        return Err(ApiError::field("input", "input has no texts"));
    }
    let embedded = wanted.embed(&models, asker.client).await?;
    let data = embedded.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = match encoded {
            false => json!(vector),
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!(BASE64_STANDARD.encode(bytes))
            }
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    Ok(Json(json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": embedded.model,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_or_a_list_and_never_numbers() {
        assert_eq!(texts(Some(json!("a"))).unwrap(), ["a"]);
        assert_eq!(texts(Some(json!(["a", ""]))).unwrap(), ["a", ""]);
        assert_eq!(texts(Some(json!([]))).unwrap(), [""; 0]);
        for wrong in [
            json!(null),
            json!(5),
            json!([1, 2]),
            json!([[1]]),
            json!(["a", null]),
            json!({}),
        ] {
            let error = texts(Some(wrong.clone())).expect_err("refused").to_json();
            assert_eq!(error["error"]["param"], "input", "{wrong}");
        }
        texts(Some(json!(vec!["a"; MAX_TEXTS + 1]))).expect_err("too many");
    }

    #[test]
    fn vectors_have_length_one_unless_they_have_none() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0; 2];
        normalize(&mut nothing);
        assert_eq!(nothing, [0.0; 2]);
    }
}
