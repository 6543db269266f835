//! Who is at the other end of a connection.

use std::net::SocketAddr;

use axum::extract::Request;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use cloister_engine::Client;
use tokio::net::UnixListener;

use super::api_error::ApiError;
use super::listen::NoDelay;

/// The client of one connection: an address, or a local user.
#[derive(Clone, Debug)]
pub struct Peer(pub Client);

impl Connected<IncomingStream<'_, NoDelay>> for Peer {
    fn connect_info(stream: IncomingStream<'_, NoDelay>) -> Self {
        let address: &SocketAddr = stream.remote_addr();
        Self(Client(address.ip().to_string()))
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let user = stream
            .io()
            .peer_cred()
            .map_or_else(|_| "unknown".to_owned(), |cred| cred.uid().to_string());
        Self(Client(format!("uid {user}")))
    }
}

/// Refuses what a page of another site makes a browser send: only the box's own page may ask.
pub async fn refuse_other_origins(request: Request, next: Next) -> Response {
    if same_origin(request.headers()) {
        return next.run(request).await;
    }
    ApiError::forbidden("a page of another site may not use this box").into_response()
}

/// Whether the request comes from the page itself, or from a program, which sends no origin.
fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .map(|host| host.as_bytes())
        .unwrap_or_default();
    let origin = origin.as_bytes();
    let origin = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    origin == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "box:8080".parse().expect("valid"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("valid"));
        }
        same_origin(&headers)
    }

    #[test]
    fn only_programs_and_the_own_page_may_ask() {
        assert!(allowed(None));
        assert!(allowed(Some("http://box:8080")));
        assert!(!allowed(Some("http://evil.example")));
        assert!(!allowed(Some("http://box:8081")));
        assert!(!allowed(Some("null")));
    }
}
