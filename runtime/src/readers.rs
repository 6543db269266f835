//! The root of a crate of its own, which the fuzz targets in `tests/fuzz` are built on: the modules of `serve` that read
//! what clients send, and those of the engine that render a model's template, without ggml, whose build would have to
//! be repeated for fuzzing.
//!
//! It must never hold more code of its own than stands in the place of what is left out.

#![allow(dead_code, missing_docs, unused_imports)] // for the program, which uses the rest

extern crate self as cloister_engine;

#[path = "../engine/src"]
mod engine {
    pub mod chat;
    pub mod deep;
    pub mod error;
    pub mod grammar;
    pub mod hostile;
    pub mod model;
    pub mod reasoning;
    pub mod restraint;
    pub mod sampling;
    pub mod shape;
    pub mod tools;
}
use engine::{chat, deep, error, grammar, reasoning, sampling, shape, tools};

pub use chat::{Conversation, Message};
pub use engine::error::{GenerateError, LoadError, PromptError, QueueFull, StoreError};
pub use engine::model::ModelInfo;
pub use engine::restraint::Closed;
pub use grammar::{Grammars, Next};
pub use sampling::{InvalidSampling, Sampling};
pub use shape::Shape;
pub use tools::{Tool, ToolCall, ToolChoice};

/// In the place of the modules around ggml.
mod llama {
    pub type Token = i32;

    /// A vocabulary of all bytes, and one token that ends the answer.
    pub struct Model;

    impl Model {
        pub fn n_vocab(&self) -> Token {
            257
        }

        pub fn piece(&self, token: Token, _special: bool) -> Vec<u8> {
            u8::try_from(token).map_or_else(|_| b"<end>".to_vec(), |byte| vec![byte])
        }

        pub fn is_control(&self, token: Token) -> bool {
            self.is_end_of_generation(token)
        }

        pub fn is_end_of_generation(&self, token: Token) -> bool {
            token == 256
        }

        pub fn is_byte_level(&self) -> bool {
            true
        }

        pub fn tokenize_plain(&self, text: &str, _special: bool) -> Vec<Token> {
            text.bytes().map(Token::from).collect()
        }
    }

    pub fn first_error() -> Option<String> {
        None
    }
}
pub use llama::{Model, Token};

/// In the place of the scheduler's.
#[derive(Clone, Copy, Debug)]
pub enum Priority {
    Interactive,
    Automation,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub String);

pub mod serve {
    mod api_error;
    mod fields;
    pub mod hostile;
    mod idle;

    mod ask {
        mod messages;
        mod request;
        mod sampling;
        mod shape;
        mod thinking;
        mod tools;

        pub use messages::messages;
        pub use request::{Ask, Source};
        pub use sampling::{logit_bias, sampling, stop};
        pub use shape::{chat_shape, format, response_format};
        pub use thinking::Thinking;
        pub use tools::Tools;
    }

    mod chat {
        pub mod request;
    }
    mod ollama {
        pub mod request;
    }
    mod responses {
        pub mod request;
    }
}

/// The readers, each with what it is read by and sound bytes for it.
pub mod hostile {
    pub use crate::engine::hostile::{seeds as templates, template};
    pub use crate::serve::hostile::{body, seeds as bodies};
}
