//! The engine: one GGUF model, its slots and their scheduler.
//!
//! In: chat messages and sampling settings. Out: a stream of [`Event`]s for each request, with
//! reasoning and answer apart. One thread owns the llama context; everything else talks to it over
//! channels, and dropping a [`Generation`] cancels it. This crate knows no HTTP and no MQTT, writes
//! no file but the prefixes that it is told to store, and never logs a prompt or an answer.

pub mod bench;
mod card;
mod chat;
mod cores;
mod decoder;
mod deep;
mod draft_model;
mod embedder;
mod engine;
mod error;
pub mod evaluate;
mod event;
mod grammar;
#[cfg(test)]
mod hostile;
mod llama;
mod memory;
mod model;
mod pooling;
mod prefix_store;
mod queue;
mod reasoning;
mod rehearsal;
mod restraint;
mod sampling;
mod scheduler;
mod shape;
mod slot;
mod speculation;
mod stop;
mod text_pipeline;
mod tools;
mod top_k;

pub use card::Card;
pub use chat::{Conversation, Jinja, Message, RunTemplate, TemplateTask};
pub use cores::usable_cores;
pub use embedder::{Embedder, EmbedderInfo, Embedding, Text};
pub use engine::{Client, Engine, Generation, Options, Phase, Priority, Prompt, Request, Stats};
pub use error::{EmbedError, GenerateError, LoadError, PromptError, QueueFull, StoreError};
pub use event::{Completion, Event, FinishReason, Timings, Usage};
pub use grammar::{Grammar, ShapeError};
pub use llama::{KvType, Token, cpu_features};
pub use memory::free as free_memory;
pub use model::{ModelInfo, id_of};
pub use pooling::Pooling;
pub use prefix_store::PrefixFolder;
pub use reasoning::Stage;
pub use rehearsal::{Trial, rehearse};
pub use restraint::{Closed, Pace, Restraint};
pub use sampling::{InvalidSampling, Sampling};
pub use shape::Shape;
pub use tools::{Hold, Tool, ToolCall, ToolChoice};
