//! An HTTP client for one service: over TCP with `ureq`, over a Unix socket by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use crate::process::PATIENCE;

/// An answer that has come whole.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, with values.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| {
            panic!(
                "{error} in the answer with status {}: {}",
                self.status, self.body
            )
        })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Speaks to whatever the URLs name. Statuses of 400 and above are answers, too.
#[derive(Clone)]
pub struct Http(Agent);

impl Default for Http {
    fn default() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE * 2))
            .build();
        Self(config.into())
    }
}

impl Http {
    /// GET with these headers.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
        let mut request = self.0.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call().and_then(whole)
    }

    /// POST of a JSON text, well-formed or not.
    pub fn post(&self, url: &str, body: &str) -> Result<Answer, ureq::Error> {
        self.0
            .post(url)
            .header("content-type", "application/json")
            .send(body)
            .and_then(whole)
    }

    /// The same with further headers.
    pub fn post_with(
        &self,
        url: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ureq::Error> {
        let mut request = self.0.post(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).and_then(whole)
    }

    /// DELETE.
    pub fn delete(&self, url: &str) -> Result<Answer, ureq::Error> {
        self.0.delete(url).call().and_then(whole)
    }

    /// POST whose answer is a stream of server-sent events. Dropped, the connection is closed.
    pub fn stream(&self, url: &str, body: &Value) -> Events {
        let response = self
            .0
            .post(url)
            .header("content-type", "application/json")
            .send(body.to_string())
            .expect("the service answers");
        Events::of(response)
    }

    /// GET of a stream of server-sent events.
    pub fn events(&self, url: &str) -> Events {
        Events::of(self.0.get(url).call().expect("the service answers"))
    }
}

fn whole(mut response: Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    Ok(Answer {
        status: response.status().as_u16(),
        headers,
        body: response.body_mut().read_to_string()?,
    })
}

/// The `data` of server-sent events, one by one.
pub struct Events(Box<dyn BufRead>);

impl Events {
    fn of(response: Response<ureq::Body>) -> Self {
        assert_eq!(response.status(), 200, "the stream was refused");
        let kind = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        assert!(
            kind.starts_with("text/event-stream"),
            "{kind:?} is no event stream"
        );
        Self(Box::new(BufReader::new(response.into_body().into_reader())))
    }
}

impl Iterator for Events {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("the stream can be read") == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data:") {
                return Some(data.trim().to_owned());
            }
        }
    }
}

/// POST over a Unix socket, on a connection of its own; gives the raw answer, head and body.
pub fn post_over_unix(socket: &Path, path: &str, body: &str) -> String {
    send_over_unix(socket, "POST", path, body, "")
}

/// The same with PUT.
pub fn put_over_unix(socket: &Path, path: &str, body: &str) -> String {
    send_over_unix(socket, "PUT", path, body, "")
}

/// The same with DELETE, and nothing in the body.
pub fn delete_over_unix(socket: &Path, path: &str) -> String {
    send_over_unix(socket, "DELETE", path, "", "")
}

/// The same for somebody else, whom the header `Cloister-Asker` names.
pub fn post_over_unix_as(socket: &Path, path: &str, body: &str, asker: &str) -> String {
    send_over_unix(
        socket,
        "POST",
        path,
        body,
        &format!("Cloister-Asker: {asker}\r\n"),
    )
}

fn send_over_unix(socket: &Path, method: &str, path: &str, body: &str, header: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("the socket accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit can be set");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the socket takes the request");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the answer is text");
    answer
}
