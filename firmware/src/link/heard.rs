//! What `serve` says.

use cloister_control::thermal::Throttle;
use cloister_control::units::TokensPerSecond;
use cloister_control::{Engine, Phase};
use cloister_program::panel::PanelReport;
use serde::Deserialize;

/// How one gets in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Door {
    /// The page's address.
    pub url: String,
    /// Of the certificate there, in pairs of digits; none where it is not encrypted.
    pub fingerprint: Option<String>,
}

/// What `serve` says of itself, as far as the panel cares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// The loaded model.
    pub model: Option<String>,
    /// Whether it is there, and answers nothing.
    #[serde(skip)]
    pub hangs: bool,
    status: String,
    phase: String,
    private: Option<bool>,
    throttle: u8,
    tokens: Tokens,
    tokens_per_second: Speeds,
    queue: Queue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Tokens {
    prompt: u64,
    generated: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Speeds {
    decode: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Queue {
    waiting: u64,
}

impl Heard {
    /// One that answers nothing.
    pub fn hanging() -> Self {
        Self {
            hangs: true,
            ..Self::default()
        }
    }

    /// As the laws see it.
    pub fn engine(&self) -> Engine {
        let phase = match self.phase.as_str() {
            "reading" => Phase::Reading,
            "thinking" => Phase::Thinking,
            "answering" => Phase::Answering,
            _ => Phase::Idle,
        };
        match self.status.as_str() {
            _ if self.hangs => Engine::Silent,
            "ok" => Engine::Serving {
                phase,
                private: self.private,
                throttle: match self.throttle {
                    0 => Throttle::None,
                    1 => Throttle::Light,
                    2 => Throttle::Half,
                    3 => Throttle::Quarter,
                    _ => Throttle::Stop,
                },
            },
            "loading" => Engine::Loading,
            _ => Engine::Failed,
        }
    }

    /// Whether it does as it was told.
    pub fn obeys(&self, told: &PanelReport) -> bool {
        let private = told.private.is_none() || told.private == self.private;
        private && told.throttle.step() == self.throttle
    }

    /// Tokens generated since its start.
    pub fn generated(&self) -> u64 {
        self.tokens.generated
    }

    /// What moves whenever it computes.
    pub fn steps(&self) -> u64 {
        self.tokens.generated + self.tokens.prompt
    }

    /// Tokens of answers in a second, lately.
    pub fn speed(&self) -> TokensPerSecond {
        TokensPerSecond(self.tokens_per_second.decode)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u64 {
        self.queue.waiting
    }
}
