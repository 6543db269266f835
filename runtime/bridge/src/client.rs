//! The engine's HTTP API over its Unix socket.
//!
//! In: a chat completion request, or the wish to hear the engine's state. Out: pieces as they come,
//! and an [`AskError`] for whatever goes wrong. One connection for each request: dropping the future
//! closes it, and that is how the engine learns of a cancel.
//! Must never open any other connection than to that socket.

use std::path::PathBuf;

use bytes::Bytes;
use cloister_sandbox::report::Report;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::answer::{AskError, Delta, ErrorCode, Reply};
use crate::sse;

/// The longest error, or list of models, that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

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

/// The engine behind its socket.
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The engine that listens, or will listen, on `socket`.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
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
        let (mut stream, _connection) = self
            .open(
                Method::POST,
                "/v1/chat/completions",
                asker,
                request.to_owned(),
            )
            .await?;
        let mut done = false;
        while !done {
            let Some(events) = stream.next().await? else {
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
            return Err(unavailable(
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
        let (mut stream, _connection) = match opened {
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
                Err(error) => return error,
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

    /// Tells about this process; the answer is the order to erase what it keeps, if there is one.
    pub async fn report(&self, report: &Report) -> Result<Option<u64>, AskError> {
        let body = serde_json::to_string(report).map_err(|error| internal(error.to_string()))?;
        let answer = self.get("/api/privacy/report", Method::POST, body).await?;
        Ok(answer["erase"].as_u64())
    }

    /// Has `model` loaded, or for `default` whichever was loaded last.
    pub async fn load(&self, model: &str) -> Result<(), AskError> {
        let body = json!({"model": model, "stream": false}).to_string();
        self.get("/api/generate", Method::POST, body).await?;
        Ok(())
    }

    /// Sends one request and returns its whole answer.
    async fn get(&self, path: &str, method: Method, body: String) -> Result<Value, AskError> {
        let (response, _connection) = self.send(method, path, None, body).await?;
        let body = Limited::new(response, MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|_| unavailable("the engine closed the connection"))?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|_| internal("the engine sent an answer that is not JSON"))
    }

    /// Sends one request and returns its event stream once the engine has agreed to it.
    async fn open(
        &self,
        method: Method,
        path: &str,
        asker: Option<&str>,
        body: String,
    ) -> Result<(EventStream, Connection), AskError> {
        let (body, connection) = self.send(method, path, asker, body).await?;
        let stream = EventStream {
            body,
            parser: sse::Parser::default(),
        };
        Ok((stream, connection))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        asker: Option<&str>,
        body: String,
    ) -> Result<(Incoming, Connection), AskError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            unavailable(format!(
                "the engine does not answer on {}: {error}; is `cloister serve` running?",
                self.socket.display()
            ))
        })?;
        let gone = |_| unavailable("the engine closed the connection");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        // Its errors also come out of the request and of the body.
        let connection = Connection(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json");
        if let Some(asker) = asker {
            // Bytes, for a topic need not be ASCII.
            request = request.header("cloister-asker", asker.as_bytes());
        }
        let request = request
            .body(Full::<Bytes>::from(body))
            .expect("method and path are constants, and a topic holds no control character");
        let response: Response<Incoming> = sender.send_request(request).await.map_err(gone)?;
        let status = response.status();
        let body = response.into_body();
        if status != StatusCode::OK {
            let body = Limited::new(body, MAX_BODY_BYTES)
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            return Err(from_engine(Some(status), &body["error"]));
        }
        Ok((body, connection))
    }
}

/// The task that moves a connection's bytes; ends, and closes the socket, with its request.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct EventStream {
    body: Incoming,
    parser: sse::Parser,
}

impl EventStream {
    /// The next events; `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Vec<sse::Event>>, AskError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| unavailable("the engine closed the connection"))?;
            if let Some(data) = frame.data_ref() {
                return self
                    .parser
                    .push(data)
                    .map(Some)
                    .map_err(|error| internal(error.to_string()));
            }
        }
        Ok(None)
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

fn unavailable(message: impl Into<String>) -> AskError {
    AskError::new(ErrorCode::Unavailable, message)
}

fn internal(message: impl Into<String>) -> AskError {
    AskError::new(ErrorCode::Internal, message)
}

#[cfg(test)]
mod tests;
