//! The HTTP API of `cloister serve` over its Unix socket, for the box's own programs.
//!
//! In: a request. Out: its answer, whole or event by event. One connection for each request: dropping the answer closes
//! it, and that is how `serve` learns of a cancel.
//! Must never open any other connection than to that socket.

mod sse;

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

pub use hyper::{Method, StatusCode};
pub use sse::Event;

/// The longest whole answer that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody accepts on the socket.
    #[error("the engine does not answer on {}: {source}; is `cloister serve` running?", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection ended before the answer did.
    #[error("the engine closed the connection")]
    Closed,
    /// The answer is none that this program can read.
    #[error("the engine sent {0}")]
    Unreadable(String),
}

/// `cloister serve` behind its socket.
#[derive(Clone, Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// The one that listens, or will listen, at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Sends one request with a JSON body, on behalf of `asker` if there is a name for who asks; returns the head of its
    /// answer, whatever its status.
    ///
    /// # Errors
    /// Nobody is there, or they hang up.
    ///
    /// # Panics
    /// `path` is no path of a URL, or `asker` holds a control character.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        asker: Option<&str>,
        body: String,
    ) -> Result<Answer, Error> {
        let stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|source| Error::Unreachable {
                    socket: self.path.clone(),
                    source,
                })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|_| Error::Closed)?;
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
            .expect("a path, and a name without control characters");
        let response = sender.send_request(request).await;
        let response = response.map_err(|_| Error::Closed)?;
        Ok(Answer {
            status: response.status(),
            body: response.into_body(),
            connection,
        })
    }
}

/// An answer whose head has come.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    body: Incoming,
    connection: Connection,
}

impl Answer {
    /// The whole of it.
    ///
    /// # Errors
    /// The connection ends before, it is longer than a megabyte, or no JSON.
    pub async fn json(self) -> Result<Value, Error> {
        let _connection = self.connection;
        let body = Limited::new(self.body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|_| Error::Closed)?.to_bytes();
        serde_json::from_slice(&body)
            .map_err(|_| Error::Unreadable("an answer that is not JSON".to_owned()))
    }

    /// The events that it consists of.
    pub fn events(self) -> Events {
        Events {
            body: self.body,
            parser: sse::Parser::default(),
            _connection: self.connection,
        }
    }
}

/// An answer that consists of server-sent events.
pub struct Events {
    body: Incoming,
    parser: sse::Parser,
    _connection: Connection,
}

impl Events {
    /// The next ones that have come, none if it was a comment only; `None` at the end.
    ///
    /// # Errors
    /// The connection ends in the middle, or an event is longer than a megabyte.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| Error::Closed)?;
            if let Some(data) = frame.data_ref() {
                let events = self.parser.push(data);
                return events
                    .map(Some)
                    .map_err(|error| Error::Unreadable(error.to_string()));
            }
        }
        Ok(None)
    }
}

/// The task that moves a connection's bytes; ends, and closes the socket, with its request.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}
