//! What `/api/chat` and `/api/generate` are asked, checked field by field.

use std::time::Duration;

use cloister_engine::Message;
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::ask::{Ask, Source, Thinking, Tools, format, messages, sampling, stop};
use crate::serve::fields::Fields;
use crate::serve::idle::{self, Stay};

/// A checked request.
#[derive(Debug)]
pub struct OllamaRequest {
    pub wanted: Wanted,
    pub stream: bool,
    /// How long the model is to stay after it, if the request says so.
    pub stay: Option<Stay>,
}

/// What is wanted.
#[derive(Debug)]
pub enum Wanted {
    /// An answer.
    Answer(Box<Ask>),
    /// There is nothing to answer, but the model shall be there.
    Load { model: Option<String> },
    /// There is nothing to answer, and the model shall go.
    Unload { model: Option<String> },
}

type Result<T> = std::result::Result<T, ApiError>;

impl OllamaRequest {
    /// Parses and checks a body of `/api/chat`.
    ///
    /// # Errors
    /// The first field that is wrong, unknown, or asks for what this server cannot do.
    pub fn chat(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let source = match fields.take("messages") {
            None => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            given => Some(Source::Messages(messages(given)?)),
        };
        let tools = Tools::parse(&mut fields)?;
        Self::parse(fields, source, tools)
    }

    /// Parses and checks a body of `/api/generate`.
    ///
    /// # Errors
    /// As [`OllamaRequest::chat`].
    pub fn generate(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let prompt = fields.text("prompt")?.unwrap_or_default();
        let system = fields.text("system")?.unwrap_or_default();
        let raw = fields.flag("raw")?;
        let source = if prompt.is_empty() {
            None
        } else if raw {
            Some(Source::Raw(prompt))
        } else {
            let system = (!system.is_empty()).then(|| Message::new("system", system));
            let messages = system.into_iter().chain([Message::new("user", prompt)]);
            Some(Source::Messages(messages.collect()))
        };
        // Each would change the answer.
        fields.refuse("suffix", &[json!("")])?;
        fields.refuse("template", &[json!("")])?;
        fields.refuse("context", &[json!([])])?;
        fields.refuse("images", &[json!([])])?;
        Self::parse(fields, source, None)
    }

    fn parse(mut fields: Fields, source: Option<Source>, tools: Option<Tools>) -> Result<Self> {
        let model = fields.text("model")?;
        let stream = match fields.has("stream") {
            false => true,
            true => fields.flag("stream")?,
        };
        let stay = keep_alive(fields.take("keep_alive"))?;
        let thinking = Thinking::parse(&mut fields)?;
        let shape = format(fields.take("format"))?;
        fields.refuse("logprobs", &[json!(false)])?;
        fields.refuse("top_logprobs", &[json!(0)])?;
        // Ollama cuts a conversation that is too long unless told otherwise; here nothing is ever cut.
        fields.ignore(&["truncate", "shift"]);
        let options = fields.take("options").unwrap_or_else(|| json!({}));
        fields.finish()?;
        let mut options = Fields::of(options, "options")?;
        let mut sampling = sampling(&mut options)?;
        if let Some(n) = options.integer("repeat_last_n", -1, i64::from(i32::MAX))? {
            sampling.repeat_last_n = n as i32;
        }
        // -1 and -2 are as many as the context has room for.
        let max_tokens = options.integer("num_predict", -2, i64::from(i32::MAX))?;
        let stop = stop(options.take("stop"))?;
        // A slot has the window that it has. A conversation which is too long for it is refused, not cut, so
        // that no answer depends on the window which a client wishes for.
        options.integer("num_ctx", 1, i64::from(u32::MAX))?;
        // How the engine runs is the owner's choice.
        options.ignore(&[
            "num_keep",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "num_thread",
            "numa",
            "low_vram",
            "f16_kv",
            "vocab_only",
            "use_mmap",
            "use_mlock",
            "logits_all",
            "embedding_only",
            "penalize_newline",
        ]);
        for (name, harmless) in [
            ("mirostat", vec![json!(0)]),
            ("tfs_z", vec![json!(1), json!(1.0)]),
            ("typical_p", vec![json!(1), json!(1.0)]),
        ] {
            options.refuse(name, &harmless)?;
        }
        options.ignore(&["mirostat_tau", "mirostat_eta"]);
        options.finish()?;
        let wanted = match source {
            None if stay == Some(Some(Duration::ZERO)) => Wanted::Unload { model },
            None => Wanted::Load { model },
            Some(source) => Wanted::Answer(Box::new(Ask {
                model,
                sampling,
                max_tokens: max_tokens.filter(|n| *n >= 0).map(|n| n as usize),
                stop,
                thinking,
                shape,
                tools,
                shape_field: "format",
                ..Ask::of(source)
            })),
        };
        Ok(Self {
            wanted,
            stream,
            stay,
        })
    }
}

/// How long the model is to stay, where the request says it.
pub fn keep_alive(value: Option<Value>) -> Result<Option<Stay>> {
    let stay = match value {
        None => return Ok(None),
        Some(Value::Number(seconds)) => Ok(idle::of_seconds(seconds.as_f64().unwrap_or(-1.0))),
        Some(Value::String(text)) => idle::parse(&text),
        Some(value) => Err(format!(
            "{value} is neither seconds nor a time such as \"5m\""
        )),
    };
    stay.map(Some)
        .map_err(|wrong| ApiError::field("keep_alive", format!("keep_alive: {wrong}")))
}
