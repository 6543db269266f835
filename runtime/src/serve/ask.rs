//! What the APIs have in common: a request becomes a prompt and settings, and goes to the engine.
//!
//! In: the fields that OpenAI's and Ollama's clients send. Out: a running generation, or the error that says
//! what is wrong with the request. Must never change what was asked.

mod messages;
mod sampling;
mod shape;
mod thinking;
mod tools;
mod truncation;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, header};
use cloister_engine::{
    Conversation, Engine, Generation, Hold, Message, Priority, Request, Sampling, Shape, ShapeError,
};

use super::api_error::ApiError;
use super::fields::Fields;
use super::models::Models;
use super::peer::Asker;
use super::templates;
pub use messages::messages;
pub use sampling::{logit_bias, sampling, stop};
pub use shape::{chat_shape, format, response_format};
pub use thinking::Thinking;
pub use tools::Tools;
pub use truncation::Cut;

/// A checked request, whichever API it came by.
#[derive(Debug)]
pub struct Ask {
    pub model: Option<String>,
    pub source: Source,
    pub sampling: Sampling,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    /// Most tokens that are computed ahead of what may come.
    pub most_drafted: Option<usize>,
    pub thinking: Thinking,
    /// Whether its system messages and tools are to be stored first.
    pub stores_template: bool,
    /// What the answer must look like.
    pub shape: Option<Shape>,
    /// Whether somebody waits for the answer, where the request says so.
    pub priority: Option<Priority>,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Whether the middle of a conversation that is too long may be cut.
    pub may_cut: bool,
    /// What the model may call.
    pub tools: Option<Tools>,
    /// The field that says what it must look like.
    pub shape_field: &'static str,
}

/// What the prompt is made from.
#[derive(Debug)]
pub enum Source {
    /// By the model's template.
    Messages(Vec<Message>),
    /// The text as it is, special tokens written out.
    Raw(String),
}

/// What has become of an [`Ask`].
pub struct Asked {
    /// Who answers; holding it keeps the model loaded.
    pub engine: Arc<Engine>,
    /// The answer.
    pub generation: Generation,
    /// What was cut of the conversation.
    pub cut: Option<Cut>,
}

/// Longest time until a deadline, in milliseconds: a day.
const MAX_DEADLINE: i64 = 24 * 60 * 60 * 1000;

impl Ask {
    /// A request for an answer to `source`, with the defaults of all that may be said.
    pub fn of(source: Source) -> Self {
        Self {
            model: None,
            source,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            most_drafted: None,
            thinking: Thinking::default(),
            stores_template: false,
            shape: None,
            priority: None,
            deadline: None,
            may_cut: false,
            tools: None,
            shape_field: "",
        }
    }

    /// Takes the fields that are this box's own or llama-server's, and that both of OpenAI's APIs have here.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn with_common(self, fields: &mut Fields) -> Result<Self, ApiError> {
        let most_drafted = fields.integer("speculative.n_max", 0, 64)?;
        let deadline = fields.integer("deadline_ms", 1, MAX_DEADLINE)?;
        let deadline = deadline.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        Ok(Self {
            most_drafted: most_drafted.map(|n| n as usize),
            stores_template: templates::marked(fields)?,
            priority: priority(fields.text("service_tier")?)?,
            deadline: deadline.map(|time| Instant::now() + time),
            may_cut: truncation::parse(fields)?,
            ..self
        })
    }

    /// The messages with what the model may call; without what the thought needs beside an answer's shape.
    pub fn conversation(&self) -> Conversation {
        Conversation {
            messages: match &self.source {
                Source::Messages(messages) => messages.clone(),
                Source::Raw(_) => Vec::new(),
            },
            think: self.thinking.think,
            tools: match &self.tools {
                None => Vec::new(),
                Some(tools) => tools.tools.clone(),
            },
        }
    }

    /// Puts the request into the queue of the model that it asks for.
    pub async fn submit(self, models: &Arc<Models>, asker: Asker) -> Result<Asked, ApiError> {
        let engine = models.engine(self.model.as_deref()).await?;
        self.submit_to(engine, models.reasoning_budget(), asker)
            .await
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
            if !asker.owner {
                let message = "only the owner, on this machine itself, may store a template";
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
                    Some(held.map_err(|e| unfit("tools", &e))?)
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

/// OpenAI's tiers: `flex` is for work that can wait.
fn priority(tier: Option<String>) -> Result<Option<Priority>, ApiError> {
    match tier.as_deref() {
        None | Some("auto") => Ok(None),
        Some("default" | "priority") => Ok(Some(Priority::Interactive)),
        Some("flex") => Ok(Some(Priority::Automation)),
        Some(tier) => Err(ApiError::field(
            "service_tier",
            format!("service_tier must be auto, default, priority or flex, not {tier:?}"),
        )),
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
