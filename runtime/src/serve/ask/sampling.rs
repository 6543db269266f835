//! How tokens are drawn and what ends an answer, as requests say it.

use cloister_engine::{Sampling, Token};
use serde_json::Value;

use crate::serve::api_error::ApiError;
use crate::serve::fields::Fields;

/// Most stop sequences, and most bytes of one.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Most tokens whose logits are changed, as with OpenAI.
const MAX_BIASES: usize = 300;

/// Takes the settings from `fields`, where both OpenAI and Ollama have them under these names.
pub fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let mut sampling = Sampling::default();
    for (name, place) in [
        ("temperature", &mut sampling.temperature),
        ("top_p", &mut sampling.top_p),
        ("min_p", &mut sampling.min_p),
        ("repeat_penalty", &mut sampling.repeat_penalty),
        ("frequency_penalty", &mut sampling.frequency_penalty),
        ("presence_penalty", &mut sampling.presence_penalty),
    ] {
        if let Some(value) = fields.number(name)? {
            *place = value;
        }
    }
    if let Some(top_k) = fields.integer("top_k", 0, i64::from(i32::MAX))? {
        sampling.top_k = top_k as i32;
    }
    // llama.cpp's seeds have 32 bits; others are folded, not refused, as any number is a good seed.
    sampling.seed = fields
        .integer("seed", i64::MIN, i64::MAX)?
        .map(|seed| (seed ^ (seed >> 32)) as u32);
    sampling.ignore_eos = fields.flag("ignore_eos")?;
    sampling.check()?;
    Ok(sampling)
}

/// OpenAI's `logit_bias`: what to add to the logits of tokens, by their numbers in the model's vocabulary.
pub fn logit_bias(fields: &mut Fields) -> Result<Vec<(Token, f32)>, ApiError> {
    let wrong = |message: String| ApiError::field("logit_bias", message);
    let Some(value) = fields.take("logit_bias") else {
        return Ok(Vec::new());
    };
    let Value::Object(biases) = value else {
        let message =
            "logit_bias must be an object of tokens' numbers and what is added to their logits";
        return Err(wrong(message.to_owned()));
    };
    if biases.len() > MAX_BIASES {
        return Err(wrong(format!("there may be {MAX_BIASES} tokens at most")));
    }
    let one = |(token, bias): (String, Value)| {
        let number = token.parse::<Token>().ok().filter(|token| *token >= 0);
        let number = number.ok_or_else(|| wrong(format!("{token:?} is no number of a token")))?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let bias =
            bias.ok_or_else(|| wrong(format!("that of {token} must be from -100 to 100")))?;
        Ok((number, bias as f32))
    };
    biases.into_iter().map(one).collect()
}

/// Checks the stop sequences.
pub fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = |message: &str| ApiError::field("stop", message);
    let stops = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => stops
            .into_iter()
            .map(|stop| match stop {
                Value::String(stop) => Ok(stop),
                _ => Err(wrong("every stop sequence must be a string")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong("stop must be a string or an array of strings")),
    };
    if stops.len() > MAX_STOPS {
        return Err(wrong(&format!(
            "there may be {MAX_STOPS} stop sequences at most"
        )));
    }
    if stops
        .iter()
        .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
    {
        return Err(wrong(&format!(
            "a stop sequence must have 1 to {MAX_STOP_BYTES} bytes"
        )));
    }
    Ok(stops)
}
