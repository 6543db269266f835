//! What `/api/chat` and `/api/generate` are asked, checked field by field.

use std::time::Duration;

use cloister_engine::Message;
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::ask::{Ask, Source, Thinking, Tools, format, messages, sampling, stop};
use crate::serve::fields::Fields;

/// A checked request.
#[derive(Debug)]
pub struct OllamaRequest {
    pub wanted: Wanted,
    pub stream: bool,
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
        let keep = keep_alive(fields.take("keep_alive"))?;
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
            None if keep == Some(Duration::ZERO) => Wanted::Unload { model },
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
        Ok(Self { wanted, stream })
    }
}

/// How long the model is to stay; `None` for ever, which is how long it stays here whatever is said, but for
/// zero: seconds, or text such as `5m`.
fn keep_alive(value: Option<Value>) -> Result<Option<Duration>> {
    let wrong = |value: &Value| {
        let message = format!("keep_alive must be seconds or text such as \"5m\", not {value}");
        ApiError::field("keep_alive", message)
    };
    match value {
        None => Ok(None),
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_f64().unwrap_or(-1.0);
            // What is negative is for ever, and so is what no duration can hold.
            Ok(Duration::try_from_secs_f64(seconds).ok())
        }
        Some(Value::String(text)) => {
            if let Ok(seconds) = text.parse::<f64>() {
                return Ok(Duration::try_from_secs_f64(seconds).ok());
            }
            let positive = text.strip_prefix('-');
            let time = humantime::parse_duration(positive.unwrap_or(&text));
            let time = time.map_err(|_| wrong(&Value::String(text.clone())))?;
            Ok(positive.is_none().then_some(time))
        }
        Some(value) => Err(wrong(&value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_stays_for_seconds_a_duration_or_for_ever() {
        for (given, stays) in [
            (json!(null), None),
            (json!(0), Some(0)),
            (json!("0"), Some(0)),
            (json!("0s"), Some(0)),
            (json!(90), Some(90)),
            (json!("1h30m"), Some(5400)),
            (json!(-1), None),
            (json!("-1m"), None),
        ] {
            let value = Some(given.clone()).filter(|value| !value.is_null());
            let time = keep_alive(value).expect("fine");
            assert_eq!(time, stays.map(Duration::from_secs), "{given}");
        }
        for wrong in [json!("soon"), json!(""), json!([]), json!(true)] {
            keep_alive(Some(wrong)).expect_err("refused");
        }
    }
}
