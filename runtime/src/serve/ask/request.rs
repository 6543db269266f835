//! What is asked, whichever API it came by.
//!
//! In: fields of a request. Out: an [`Ask`], or the field that is wrong. Knows no model.

use std::time::{Duration, Instant};

use cloister_engine::{Conversation, Message, Priority, Sampling, Shape};

use super::{Thinking, Tools};
use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

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
            stores_template: stores_template(fields)?,
            priority: priority(fields.text("service_tier")?)?,
            deadline: deadline.map(|time| Instant::now() + time),
            may_cut: may_cut(fields)?,
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

/// Whether `cache` marks the request's template to be stored.
fn stores_template(fields: &mut Fields) -> Result<bool, ApiError> {
    match fields.text("cache")?.as_deref() {
        None => Ok(false),
        Some("template") => Ok(true),
        Some(cache) => Err(ApiError::field(
            "cache",
            format!("cache must be template, not {cache:?}"),
        )),
    }
}

/// Whether a request lets its middle be cut.
fn may_cut(fields: &mut Fields) -> Result<bool, ApiError> {
    match fields.text("truncation")?.as_deref() {
        None | Some("disabled") => Ok(false),
        Some("middle") => Ok(true),
        Some(other) => Err(ApiError::field(
            "truncation",
            format!("truncation must be disabled or middle, not {other:?}"),
        )),
    }
}
