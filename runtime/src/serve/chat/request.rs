//! What a client asks for, checked field by field.

use cloister_engine::Sampling;
use serde_json::json;

use crate::serve::api_error::ApiError;
use crate::serve::ask::{
    Ask, Source, Thinking, Tools, chat_shape, logit_bias, messages, sampling, stop,
};
use crate::serve::fields::Fields;

/// A checked request.
#[derive(Debug)]
pub struct ChatRequest {
    pub ask: Ask,
    pub stream: bool,
    pub include_usage: bool,
    pub return_progress: bool,
}

impl ChatRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// The first field that is wrong, unknown, or asks for what this server cannot do.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let messages = messages(fields.take("messages"))?;
        let tokens = |fields: &mut Fields, name| fields.integer(name, 1, i64::from(i32::MAX));
        let (new, old) = (
            tokens(&mut fields, "max_completion_tokens")?,
            tokens(&mut fields, "max_tokens")?,
        );
        let stream = fields.flag("stream")?;
        let include_usage = match fields.take("stream_options") {
            None => false,
            Some(value) => {
                let mut options = Fields::of(value, "stream_options")?;
                let include_usage = options.flag("include_usage")?;
                options.ignore(&["include_obfuscation"]);
                options.finish()?;
                include_usage
            }
        };
        let (shape, shape_field) = chat_shape(&mut fields)?;
        let request = Self {
            ask: Ask {
                model: fields.text("model")?,
                sampling: Sampling {
                    logit_bias: logit_bias(&mut fields)?,
                    ..sampling(&mut fields)?
                },
                max_tokens: new.or(old).map(|n| n as usize),
                stop: stop(fields.take("stop"))?,
                thinking: Thinking::parse(&mut fields)?,
                shape,
                tools: Tools::parse(&mut fields)?,
                shape_field,
                ..Ask::of(Source::Messages(messages)).with_common(&mut fields)?
            },
            stream,
            include_usage,
            return_progress: fields.flag("return_progress")?,
        };
        // What changes nothing in the answer.
        fields.ignore(&[
            "user",
            "metadata",
            "store",
            "safety_identifier",
            "prompt_cache_key",
            "keep_alive",
            "cache_prompt",
            "timings_per_token",
        ]);
        // What would change it, and cannot be done: only its harmless values pass.
        for (name, harmless) in [
            ("n", vec![json!(1)]),
            ("logprobs", vec![json!(false)]),
            ("top_logprobs", vec![json!(0)]),
            ("modalities", vec![json!(["text"])]),
        ] {
            fields.refuse(name, &harmless)?;
        }
        fields.finish()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn error(body: Value) -> Value {
        ChatRequest::parse(body.to_string().as_bytes())
            .expect_err("refused")
            .to_json()["error"]
            .clone()
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        body
    }

    #[test]
    fn what_is_given_is_what_is_asked() {
        let body = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 7,
            "temperature": 0, "top_k": 1, "seed": 3, "stop": "x", "user": "me", "n": 1, "tools": null,
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ],
        });
        let request = ChatRequest::parse(body.to_string().as_bytes()).expect("fine");
        let ask = request.ask;
        let Source::Messages(messages) = ask.source else {
            panic!("messages were given");
        };
        assert_eq!(messages[0].role, "system");
        assert_eq!(messages[1].content, "ab");
        assert_eq!((ask.max_tokens, ask.stop), (Some(7), vec!["x".to_owned()]));
        assert_eq!((ask.sampling.temperature, ask.sampling.top_k), (0.0, 1));
        assert_eq!(ask.sampling.seed, Some(3));
        assert!(request.stream && request.include_usage && !request.return_progress);
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (name, value) in [
            ("max_tokens", json!(-1)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(1e300)),
            ("max_completion_tokens", json!("ten")),
            ("temperature", json!(-1)),
            ("temperature", json!(1e300)),
            ("top_p", json!(2)),
            ("top_k", json!(-3)),
            ("top_k", json!(1.5)),
            ("seed", json!(1e300)),
            ("stop", json!("")),
            ("stop", json!([1])),
            ("stop", json!("x".repeat(1000))),
            ("stream", json!("yes")),
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("model", json!(5)),
            ("n", json!(2)),
            ("tools", json!("light")),
            ("response_format", json!("json")),
            ("grammar", json!(["root ::= x"])),
            ("logit_bias", json!({"5": 100.5})),
            ("logit_bias", json!({"five": 1})),
            ("logit_bias", json!({"-5": 1})),
            ("logit_bias", json!([5])),
            ("truncation", json!("auto")),
            ("cache", json!("everything")),
            ("speculative.n_max", json!(-1)),
            ("temprature", json!(1)),
        ] {
            let error = error(with(name, value.clone()));
            assert_eq!(error["param"], name, "{value}");
            assert_eq!(error["type"], "invalid_request_error");
        }
    }

    #[test]
    fn a_message_that_no_template_can_take_is_named() {
        let at = |message: Value| error(json!({"messages": [message]}))["param"].clone();
        assert_eq!(
            at(json!({"role": "emperor", "content": "x"})),
            "messages[0].role"
        );
        assert_eq!(at(json!({"content": "x"})), "messages[0].role");
        assert_eq!(at(json!({"role": "user"})), "messages[0].content");
        assert_eq!(
            at(json!({"role": "user", "content": [{"type": "image_url"}]})),
            "messages[0].content"
        );
    }

    #[test]
    fn what_is_no_json_object_is_told_so() {
        for body in ["", "{", "[]", "null", "\u{0}"] {
            let error = ChatRequest::parse(body.as_bytes())
                .expect_err("refused")
                .to_json();
            assert_eq!(error["error"]["type"], "invalid_request_error", "{body:?}");
        }
    }
}
