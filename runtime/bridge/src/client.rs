//! The engine's HTTP API over its Unix socket.
//!
//! In: a chat completion request, or the wish to hear the engine's state. Out: pieces as they come,
//! and an [`AskError`] for whatever goes wrong. Dropping the future is how the engine learns of a cancel.
//! Must never open any other connection than to that socket.

use std::path::PathBuf;

use cloister_client::{Answer, Error, Events, Method, Socket, StatusCode};
use cloister_sandbox::report::Report;
use serde_json::{Value, json};

use crate::answer::{AskError, Delta, ErrorCode, Reply};

/// The longest answer that is gathered, in bytes of text and reasoning: 128 Ki tokens of 8 bytes,
/// and, in JSON, still within the 2 MB that some brokers take by default.
const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// What the engine says of a request before its end.
pub enum Heard<'a> {
    /// It is being computed: it waits no longer.
    Begun,
    /// A piece of the reply.
    Delta(&'a Delta),
}

/// What `serve` wants of who reports.
pub struct Orders {
    /// The order to erase what it keeps, if there is one.
    pub erase: Option<u64>,
    /// Whether the privacy switch is on.
    pub private: bool,
}

/// The engine behind its socket.
pub struct Engine {
    socket: Socket,
}

impl Engine {
    /// The engine that listens, or will listen, on `socket`.
    pub fn at(socket: PathBuf) -> Self {
        Self {
            socket: Socket::at(socket),
        }
    }

    /// Puts a streamed chat completion to the engine, for `asker` if there is a name for who asks.
    /// `on_event` hears when its turn has come and every piece, which also goes into `reply`, so that
    /// that holds what was said so far even if this future is dropped.
    pub async fn chat(
        &self,
        request: &str,
        asker: Option<&str>,
        reply: &mut Reply,
        mut on_event: impl FnMut(Heard),
    ) -> Result<(), AskError> {
        let mut stream = self
            .open(
                Method::POST,
                "/v1/chat/completions",
                asker,
                request.to_owned(),
            )
            .await?;
        let mut done = false;
        while !done {
            let Some(events) = stream.next().await.map_err(from_client)? else {
                break;
            };
            for event in events {
                if event.data == "[DONE]" {
                    done = true;
                    break;
                }
                let chunk: Value = serde_json::from_str(&event.data)
                    .map_err(|_| internal("the engine sent an event that is not JSON"))?;
                if let Some(error) = chunk.get("error") {
                    return Err(from_engine(None, error));
                }
                if chunk["prompt_progress"].is_object() {
                    on_event(Heard::Begun);
                }
                if let Some(delta) = absorb(chunk, reply) {
                    on_event(Heard::Delta(&delta));
                }
                if reply.text.len() + reply.reasoning.len() > MAX_REPLY_BYTES {
                    return Err(internal(format!(
                        "the answer is longer than {MAX_REPLY_BYTES} bytes"
                    )));
                }
            }
        }
        if reply.finish_reason.is_none() {
            return Err(AskError::new(
                ErrorCode::BrokenOff,
                "the engine went away in the middle of the answer",
            ));
        }
        Ok(())
    }

    /// Listens to the engine's state; each one goes to `on_state`. Ends only when the engine does,
    /// or cannot be reached.
    pub async fn watch(&self, mut on_state: impl FnMut(Value)) -> AskError {
        let opened = self
            .open(Method::GET, "/api/events", None, String::new())
            .await;
        let mut stream = match opened {
            Ok(opened) => opened,
            Err(error) => return error,
        };
        loop {
            match stream.next().await {
                Ok(Some(events)) => events
                    .into_iter()
                    .filter(|event| event.name == "state")
                    .filter_map(|event| serde_json::from_str(&event.data).ok())
                    .for_each(&mut on_state),
                Ok(None) => return unavailable("the engine closed its event stream"),
                Err(error) => return from_client(error),
            }
        }
    }

    /// The names of the models that answer.
    pub async fn models(&self) -> Result<Vec<String>, AskError> {
        let list = self.get("/v1/models", Method::GET, String::new()).await?;
        let models = list["data"].as_array().cloned().unwrap_or_default();
        let embeds = |model: &&Value| model["capabilities"][0] == "embedding";
        let names = models
            .iter()
            .filter(|model| !embeds(model))
            .filter_map(|model| model["id"].as_str());
        Ok(names.map(String::from).collect())
    }

    /// Tells about this process; the answer is what it has to do.
    pub async fn report(&self, report: &Report) -> Result<Orders, AskError> {
        let body = serde_json::to_string(report).map_err(|error| internal(error.to_string()))?;
        let answer = self.get("/api/privacy/report", Method::POST, body).await?;
        Ok(Orders {
            erase: answer["erase"].as_u64(),
            private: answer["private"] == true,
        })
    }

    /// Has `model` loaded, or for `default` whichever was loaded last.
    pub async fn load(&self, model: &str) -> Result<(), AskError> {
        let body = json!({"model": model, "stream": false}).to_string();
        self.get("/api/generate", Method::POST, body).await?;
        Ok(())
    }

    /// Sends one request and returns its whole answer.
    async fn get(&self, path: &str, method: Method, body: String) -> Result<Value, AskError> {
        let answer = self.send(method, path, None, body).await?;
        answer.json().await.map_err(from_client)
    }

    /// Sends one request and returns its event stream once the engine has agreed to it.
    async fn open(
        &self,
        method: Method,
        path: &str,
        asker: Option<&str>,
        body: String,
    ) -> Result<Events, AskError> {
        Ok(self.send(method, path, asker, body).await?.events())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        asker: Option<&str>,
        body: String,
    ) -> Result<Answer, AskError> {
        let sent = self.socket.send(method, path, asker, body).await;
        let answer = sent.map_err(from_client)?;
        if answer.status == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status;
        let said = answer.json().await.unwrap_or_default();
        Err(from_engine(Some(status), &said["error"]))
    }
}

/// Adds one chunk of a streamed completion to the reply; returns the piece of text in it, if any.
fn absorb(mut chunk: Value, reply: &mut Reply) -> Option<Delta> {
    for (name, place) in [("usage", &mut reply.usage), ("timings", &mut reply.timings)] {
        if chunk[name].is_object() {
            *place = chunk[name].take();
        }
    }
    let choice = chunk.get("choices")?.get(0)?;
    if let Some(reason) = choice["finish_reason"].as_str() {
        reply.finish_reason = Some(reason.into());
    }
    let piece = |name: &str| {
        choice["delta"][name]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    let delta = Delta {
        text: piece("content"),
        reasoning: piece("reasoning_content"),
    };
    if delta == Delta::default() {
        return None;
    }
    reply.text.push_str(&delta.text);
    reply.reasoning.push_str(&delta.reasoning);
    Some(delta)
}

/// Turns the engine's error object into ours. `status` is `None` for an error inside a stream.
fn from_engine(status: Option<StatusCode>, error: &Value) -> AskError {
    let code = match (status.map(|status| status.as_u16()), error["code"].as_str()) {
        (_, Some("context_length_exceeded")) => ErrorCode::ContextLengthExceeded,
        (_, Some("unsupported_parameter")) => ErrorCode::Unsupported,
        (_, Some("deadline_exceeded")) => ErrorCode::Expired,
        (_, Some("privacy")) => ErrorCode::Privacy,
        (_, Some("stopped")) => ErrorCode::Stopped,
        // What has not begun waits until the box has cooled down.
        (None, Some("too_hot")) => ErrorCode::TooHot,
        // What has begun is begun anew, as after an engine that has gone.
        (None, Some("unavailable")) => ErrorCode::BrokenOff,
        (Some(404), _) | (_, Some("model_not_found")) => ErrorCode::ModelNotFound,
        (Some(429), _) => ErrorCode::Busy,
        (Some(503), _) => ErrorCode::Unavailable,
        (Some(400..=499), _) => ErrorCode::BadRequest,
        (None, _) if error["type"] == "invalid_request_error" => ErrorCode::BadRequest,
        _ => ErrorCode::Internal,
    };
    // Ollama's errors are their message.
    let message = match (error["message"].as_str().or(error.as_str()), status) {
        // The asker knows that field by Ollama's name.
        (Some(message), _) => message.replace("response_format", "format"),
        (None, Some(status)) => format!("the engine answered with status {status}"),
        (None, None) => "the engine broke off with an error".to_string(),
    };
    AskError::new(code, message)
}

fn from_client(error: Error) -> AskError {
    match error {
        Error::Unreachable { .. } => unavailable(error.to_string()),
        Error::Closed => AskError::new(ErrorCode::BrokenOff, error.to_string()),
        Error::Unreadable(_) => internal(error.to_string()),
    }
}

fn unavailable(message: impl Into<String>) -> AskError {
    AskError::new(ErrorCode::Unavailable, message)
}

fn internal(message: impl Into<String>) -> AskError {
    AskError::new(ErrorCode::Internal, message)
}

#[cfg(test)]
mod tests;
