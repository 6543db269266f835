//! What is asked of an engine, what comes of it, and what the engine says that it does.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::event::Event;
use crate::grammar::Grammar;
use crate::llama::Token;
use crate::reasoning::Stage;
use crate::sampling::Sampling;
use crate::tools::Hold;

/// Who asks. What one client's prompt left in a slot is never used for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub String);

/// Who waits for an answer, first who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A person.
    #[default]
    Interactive,
    /// A program that can wait while a person does.
    Automation,
}

/// Tokens ready for the model.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The rendered template, tokenized.
    pub tokens: Vec<Token>,
    /// Where the answer begins: in a thought, after one, or where both may follow.
    pub stage: Stage,
    /// How many of the tokens come before anything that a user says, where a template might be stored.
    pub template: usize,
}

/// A request that is ready to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// From [`super::Engine::prompt`].
    pub prompt: Prompt,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens to generate; from [`super::Engine::max_tokens`].
    pub max_tokens: usize,
    /// Most tokens of these to think: then the thought is closed, and the answer begins.
    pub thinking_budget: Option<usize>,
    /// Text that ends the answer.
    pub stop: Vec<String>,
    /// What the answer must look like, from where on; from [`super::Engine::grammar`] or [`super::Engine::tool_grammar`].
    pub grammar: Option<(Grammar, Hold)>,
    /// Names of the tools whose calls are read out of the answer.
    pub calls: Vec<String>,
    /// Who asks.
    pub client: Client,
    /// Whether somebody waits for it.
    pub priority: Priority,
    /// When the answer is of no use any more: then it ends, whether it has begun or not.
    pub deadline: Option<Instant>,
    /// Most tokens that are computed ahead of what may come; `None` leaves that to the engine.
    pub most_drafted: Option<usize>,
    /// Only reads the prompt, a template of [`super::Engine::template`], and stores what the model made of it.
    pub stores: bool,
}

impl Request {
    /// A request with the default settings, and neither stop sequences nor a budget for its thought.
    pub fn new(prompt: Prompt, max_tokens: usize, client: Client) -> Self {
        Self {
            prompt,
            sampling: Sampling::default(),
            max_tokens,
            thinking_budget: None,
            stop: Vec::new(),
            grammar: None,
            calls: Vec::new(),
            client,
            priority: Priority::default(),
            deadline: None,
            most_drafted: None,
            stores: false,
        }
    }
}

/// A running request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    pub(super) events: mpsc::UnboundedReceiver<Event>,
}

impl Generation {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// How far the answer is that is furthest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// A prompt is read.
    Reading,
    /// A thought is written.
    Thinking,
    /// A text is written.
    Answering,
}

/// What the engine is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// How far it is.
    pub phase: Phase,
    /// Slots that work.
    pub busy: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Speed of the last prefill, in tokens per second.
    pub prefill_per_second: f64,
    /// Speed of decoding lately, all slots together, in tokens per second.
    pub decode_per_second: f64,
    /// Prompt tokens computed since the process began.
    pub prompt_tokens: u64,
    /// Batches computed since the process began.
    pub batches: u64,
    /// Tokens generated since the process began.
    pub generated_tokens: u64,
    /// Requests answered since the process began.
    pub finished: u64,
    /// Requests cancelled since the process began.
    pub cancelled: u64,
}

impl Stats {
    /// What has been counted, without what an engine does now.
    pub fn at_rest(&self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens,
            batches: self.batches,
            generated_tokens: self.generated_tokens,
            finished: self.finished,
            cancelled: self.cancelled,
            ..Self::default()
        }
    }
}
