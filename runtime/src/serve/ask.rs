//! What the APIs have in common: a request becomes a prompt and settings, and goes to the engine.
//!
//! In: the fields that OpenAI's and Ollama's clients send. Out: a running generation, or the error that says
//! what is wrong with the request. Must never change what was asked.

mod messages;
mod request;
mod sampling;
mod shape;
mod thinking;
mod tools;
mod truncation;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, header};
use cloister_engine::{Conversation, Engine, GenerateError, Generation, Hold, Request, ShapeError};

use super::api_error::ApiError;
use super::models::Models;
use super::peer::Asker;
use super::templates;
pub use messages::messages;
pub use request::{Ask, Source};
pub use sampling::{logit_bias, sampling, stop};
pub use shape::{chat_shape, format, response_format};
pub use thinking::Thinking;
pub use tools::Tools;
pub use truncation::Cut;

/// What has become of an [`Ask`].
pub struct Asked {
    /// Who answers; holding it keeps the model loaded.
    pub engine: Arc<Engine>,
    /// The answer.
    pub generation: Generation,
    /// What was cut of the conversation.
    pub cut: Option<Cut>,
}

impl Ask {
    /// Puts the request into the queue of the model that it asks for, unless its deadline comes before: while the model is
    /// loaded, the template rendered or a grammar compiled.
    pub async fn submit(self, models: &Arc<Models>, asker: Asker) -> Result<Asked, ApiError> {
        let deadline = self.deadline;
        let submitted = async {
            let model = self.model.as_deref();
            let engine = models.engine_for(model, &asker.client, None).await?;
            self.submit_to(engine, models.reasoning_budget(), asker)
                .await
        };
        match deadline {
            None => submitted.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), submitted)
                .await
                .unwrap_or_else(|_| Err(GenerateError::Deadline.into())),
        }
    }

    /// Puts the request into the queue of `engine`.
    pub async fn submit_to(
        self,
        engine: Arc<Engine>,
        reasoning_budget: Option<usize>,
        asker: Asker,
    ) -> Result<Asked, ApiError> {
        self.thinking.check(engine.info())?;
        let n_vocab = engine.info().n_vocab;
        let mut biased = self.sampling.logit_bias.iter().map(|(token, _)| *token);
        if let Some(token) = biased.find(|token| *token as usize >= n_vocab) {
            let message = format!("there is no token {token}: the model has {n_vocab}");
            return Err(ApiError::field("logit_bias", message));
        }
        if self.stores_template {
            if !asker.admin {
                let message = "only the owner, on this machine itself or with a key of the scope admin, may store a template";
                return Err(ApiError::forbidden(message));
            }
            templates::store(&engine, self.conversation(), &asker).await?;
        }
        let thinking_budget = self.thinking.budget(reasoning_budget);
        // Tokenizing a long prompt takes a while; the threads that carry tokens should not wait for it.
        let submitted = tokio::task::spawn_blocking(move || {
            let grammar = match (&self.tools, &self.shape) {
                (None, None) => None,
                (None, Some(shape)) => {
                    let grammar = engine.grammar(shape);
                    Some((
                        grammar.map_err(|e| unfit(self.shape_field, &e))?,
                        Hold::Answer,
                    ))
                }
                (Some(tools), shape) => {
                    if let Some(shape) = shape {
                        // Told apart, so that the error names the right field.
                        let alone = engine.grammar(shape);
                        alone.map_err(|e| unfit(self.shape_field, &e))?;
                    }
                    let (choice, shape) = (&tools.choice, shape.as_ref());
                    let held = engine.tool_grammar(&tools.tools, choice, tools.parallel, shape);
                    Some(held.map_err(|(tool, e)| match tool {
                        Some(i) => unfit(&format!("tools[{i}].function.parameters"), &e),
                        None => unfit("tools", &e),
                    })?)
                }
            };
            let tools = self.tools.map_or_else(Vec::new, |tools| tools.tools);
            let calls = tools.iter().map(|tool| tool.name.clone()).collect();
            // A grammar does not let the model open a thought, so the prompt does where one is to be expected.
            let held = matches!(grammar, Some((_, Hold::Answer)));
            let expected = held && engine.info().thinks;
            let think = self.thinking.think.or(expected.then_some(true));
            let (prompt, cut) = match self.source {
                Source::Messages(messages) => {
                    let conversation = Conversation {
                        messages,
                        think,
                        tools,
                    };
                    match self.may_cut {
                        true => truncation::fit(&engine, &conversation, self.max_tokens)?,
                        false => (engine.prompt(&conversation)?, None),
                    }
                }
                Source::Raw(text) => (engine.raw_prompt(&text)?, None),
            };
            let max_tokens = engine.max_tokens(&prompt, self.max_tokens)?;
            let generation = engine.submit(Request {
                sampling: self.sampling,
                thinking_budget,
                stop: self.stop,
                most_drafted: self.most_drafted,
                priority: self.priority.unwrap_or(asker.priority),
                deadline: self.deadline,
                grammar,
                calls,
                ..Request::new(prompt, max_tokens, asker.client)
            })?;
            Ok(Asked {
                engine,
                generation,
                cut,
            })
        });
        let failed = |_| ApiError::invalid("this request cannot be turned into a prompt");
        submitted.await.map_err(failed)?
    }
}

fn unfit(field: &str, error: &ShapeError) -> ApiError {
    ApiError::field(
        field,
        format!("an answer cannot be held to {field}: {error}"),
    )
}

/// The body of a request, which must be JSON.
pub fn body(headers: &HeaderMap, bytes: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    // A form of another site can send any text without asking first, but not this content type.
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/json") {
        return Err(ApiError::invalid(
            "send the request with the header Content-Type: application/json",
        ));
    }
    bytes.map_err(|error| {
        if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::too_large(format!(
                "the body is larger than {} MiB",
                super::MAX_BODY >> 20
            ))
        } else {
            ApiError::invalid(format!("the body did not arrive: {error}"))
        }
    })
}
