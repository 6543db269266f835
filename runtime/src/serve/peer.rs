//! Who is at the other end of a connection, and for whom they ask.

use std::net::{IpAddr, SocketAddr};

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use cloister_engine::{Client, Priority};
use tokio::net::UnixListener;

use super::api_error::ApiError;
use super::listen::NoDelay;
use super::names::Names;

/// A local program that asks for others names each of them by this header.
const ASKER: &str = "cloister-asker";

/// Who asks, and how much of a hurry that is unless they say.
#[derive(Clone, Debug)]
pub struct Asker {
    pub client: Client,
    pub priority: Priority,
    /// Whether it is the owner, at the machine itself: who asks for others is not.
    pub owner: bool,
}

/// The other end of one connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over TCP.
    Address(IpAddr),
    /// Over the Unix socket: the user's number, if the kernel tells.
    LocalUser(Option<u32>),
}

impl Peer {
    /// Who asks. A local program that asks for others carries messages, as the bridge does: a person at the page
    /// goes first.
    pub fn asker(&self, headers: &HeaderMap) -> Asker {
        let for_others = matches!(self, Self::LocalUser(_)) && headers.contains_key(ASKER);
        Asker {
            client: self.client(headers),
            priority: match for_others {
                true => Priority::Automation,
                false => Priority::Interactive,
            },
            owner: match self {
                Self::Address(ip) => ip.to_canonical().is_loopback(),
                Self::LocalUser(_) => !for_others,
            },
        }
    }

    /// The client of a request: an address, or a local user, or one of those for whom a local user asks.
    /// A name that is claimed can only divide a user's own requests, never reach another user's.
    fn client(&self, headers: &HeaderMap) -> Client {
        Client(match self {
            Self::Address(ip) => ip.to_string(),
            Self::LocalUser(user) => {
                let user = user.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
                match headers.get(ASKER) {
                    None => format!("uid {user}"),
                    Some(asker) => {
                        format!(
                            "uid {user} for {}",
                            String::from_utf8_lossy(asker.as_bytes())
                        )
                    }
                }
            }
        })
    }
}

impl Connected<IncomingStream<'_, NoDelay>> for Peer {
    fn connect_info(stream: IncomingStream<'_, NoDelay>) -> Self {
        let address: &SocketAddr = stream.remote_addr();
        Self::Address(address.ip())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::LocalUser(stream.io().peer_cred().ok().map(|cred| cred.uid()))
    }
}

/// Refuses what a page of another site makes a browser send: only the box's own page may ask, and over
/// the network only under a name of the box.
pub async fn refuse_other_origins(
    State(names): State<Names>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if !same_origin(request.headers()) {
        return ApiError::forbidden("a page of another site may not use this box").into_response();
    }
    // No browser reaches the socket, and every browser sends a host.
    let host = request.headers().get(header::HOST);
    if let (Peer::Address(_), Some(host)) = (peer, host) {
        let host = String::from_utf8_lossy(host.as_bytes());
        if !names.has(&host) {
            return ApiError::forbidden(&format!(
                "this box does not know itself by the name {host:?}: use its address, or start it with --hostnames"
            ))
            .into_response();
        }
    }
    next.run(request).await
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
    fn a_local_program_may_name_those_it_asks_for_and_others_may_not() {
        let mut headers = HeaderMap::new();
        let (phone, local) = (
            Peer::Address([10, 0, 0, 1].into()),
            Peer::LocalUser(Some(7)),
        );
        assert_eq!(local.client(&headers).0, "uid 7");
        headers.insert(ASKER, "panel/answers".parse().expect("valid"));
        assert_eq!(local.client(&headers).0, "uid 7 for panel/answers");
        assert_eq!(phone.client(&headers).0, "10.0.0.1");
        assert_eq!(local.asker(&headers).priority, Priority::Automation);
        assert_eq!(phone.asker(&headers).priority, Priority::Interactive);
        let own = Peer::Address([127, 0, 0, 1].into());
        assert!(own.asker(&headers).owner && local.asker(&HeaderMap::new()).owner);
        assert!(!phone.asker(&headers).owner && !local.asker(&headers).owner);
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
