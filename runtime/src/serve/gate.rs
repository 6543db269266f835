//! What every request must pass before anything reads it.
//!
//! In: a request's head and who sends it. Out: the request, or why it may not. In this order: the box's name, whose page
//! sends it, how often this client comes, who it is, how large the body is, how fast it arrives, and how many bytes of
//! bodies there are already (`bodies.rs`). Browsers are the
//! reason for the first two: a page of another site can make them ask here, by a name of its own that it lets point
//! at this box (DNS rebinding) or with a form. No answer ever carries a header that would let it read one (CORS).

pub mod body;
mod sender;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::api_error::ApiError;
use super::bodies::Bodies;
use super::names::Names;
use super::peer::Peer;
use super::rate::{Rate, Wrong};
use super::scopes::{Needs, needs};
use super::{MAX_BODY, files, page, revoked};
use crate::access::{Access, Key, Scope};
pub use sender::is_own;
use sender::{MOST_SECRETS, for_whom, same_origin, secrets, sent_by_another_site};

/// The largest body of a request that needs no key, in bytes.
const MAX_OPEN_BODY: usize = 4096;

/// What the gate knows.
pub struct Gate {
    /// The names of this box.
    pub names: Names,
    /// Who was let in.
    pub access: Access,
    /// How often each client comes.
    pub rate: Rate,
    /// How often somebody guesses a code.
    pub wrong: Wrong,
    /// The bodies that are being read, of the machine's own programs and of the network.
    pub own: Bodies,
    pub network: Bodies,
}

/// Lets through what may go on.
pub async fn pass(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = for_whom(peer, request.headers());
    request.extensions_mut().insert(ConnectInfo(peer.clone()));
    let mut response = passed(&gate, peer, request, next).await;
    // A page of another site may not even have it loaded where no script reads it.
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    let headers = response.headers_mut();
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    response
}

async fn passed(gate: &Arc<Gate>, peer: Peer, mut request: Request, next: Next) -> Response {
    match gate.check(&peer, &request) {
        Ok((largest, key)) => {
            if let Peer::Address { ip, encrypted, .. } = peer {
                let key = key.clone();
                let known = Peer::Address { ip, encrypted, key };
                request.extensions_mut().insert(ConnectInfo(known));
            }
            let answer = if is_file(&request) {
                Ok(revoked::unless(gate, key.as_ref(), next.run(request)).await)
            } else {
                let bodies = match &peer {
                    Peer::Address { ip, .. } if !is_own(*ip) => &gate.network,
                    _ => &gate.own,
                };
                match body::whole(request, largest, bodies.room()).await {
                    Ok((request, room)) => {
                        let answer = revoked::unless(gate, key.as_ref(), next.run(request)).await;
                        // What was made of the body is gone, too.
                        drop(room);
                        Ok(answer)
                    }
                    Err(error) => Err(error),
                }
            };
            match (answer, key) {
                (Err(error), _) => error.into_response(),
                (Ok(None), _) => unknown_key().into_response(),
                (Ok(Some(response)), None) => response,
                (Ok(Some(response)), Some(key)) => {
                    response.map(|body| revoked::breaks_off(gate.clone(), key, body))
                }
            }
        }
        // A person is led to where they can be let in.
        Err(error) if error.status() == 401 && page::is_opened(&request) => {
            Redirect::to("/pair").into_response()
        }
        Err(error) => {
            // A connection that is closed on what was sent loses the answer, too.
            body::discard(request.into_body()).await;
            error.into_response()
        }
    }
}

/// Whether its body goes to the disk, piece by piece.
fn is_file(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| path.as_str() == files::PATH) && request.method() == Method::PUT
}

impl Gate {
    /// The most bytes that the body may have, and the key that was needed.
    fn check(&self, peer: &Peer, request: &Request) -> Result<(usize, Option<Key>), ApiError> {
        // No browser reaches the socket.
        let Peer::Address { ip, encrypted, .. } = peer else {
            return match same_origin(request.headers(), "http") {
                true => Ok((MAX_BODY, None)),
                false => Err(other_site()),
            };
        };
        self.check_name(request, ip.is_loopback() && !encrypted)?;
        let scheme = if *encrypted { "https" } else { "http" };
        if !same_origin(request.headers(), scheme) || sent_by_another_site(request) {
            return Err(other_site());
        }
        if ip.is_loopback() {
            return Ok((MAX_BODY, None));
        }
        if let Err(seconds) = self.rate.count(*ip, Instant::now()) {
            return Err(ApiError::too_often(seconds));
        }
        let path = request.extensions().get::<MatchedPath>();
        match path.map(|path| needs(path.as_str())) {
            // The page's files: but for the one that leads on, they are the same for everybody.
            None if !page::is_opened(request) => Ok((MAX_OPEN_BODY, None)),
            None => self.check_scope(request, Scope::Ask),
            Some(Needs::Nothing) => Ok((MAX_OPEN_BODY, None)),
            Some(Needs::Scope(scope)) => self.check_scope(request, scope),
        }
    }

    /// One host, and one of ours, wherever the request names it. What stands in the `.local` of a house its machines agree
    /// on among themselves, so that a neighbour may point our name there at this machine's own loopback, for a page of his:
    /// there it holds only where our certificate stands for it.
    fn check_name(&self, request: &Request, by_itself: bool) -> Result<(), ApiError> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(ApiError::invalid(
                "the request must have the header Host, once",
            ));
        };
        let host = String::from_utf8_lossy(host.as_bytes());
        let target = request.uri().authority().map(Authority::as_str);
        for name in [Some(&*host), target].into_iter().flatten() {
            let ours = match by_itself {
                true => self.names.has_for_itself(name),
                false => self.names.has(name),
            };
            if !ours {
                return Err(ApiError::forbidden(&format!(
                    "this box does not know itself by the name {name:?}: use its address, or start it with --hostnames"
                )));
            }
        }
        match target {
            Some(target) if !target.eq_ignore_ascii_case(&host) => Err(ApiError::invalid(
                "the request names two hosts: one in its first line, another in the header Host",
            )),
            _ => Ok(()),
        }
    }

    fn check_scope(
        &self,
        request: &Request,
        needed: Scope,
    ) -> Result<(usize, Option<Key>), ApiError> {
        let mut shown = secrets(request.headers()).peekable();
        shown.peek().ok_or_else(|| {
            ApiError::unauthorized("who asks from the network needs a key: open /pair in a browser, or send `Authorization: Bearer KEY` with a key of `cloister keys add`")
        })?;
        let whose = |secret| {
            self.access.whose(secret).unwrap_or_else(|error| {
                tracing::error!("nobody is let in: {error:#}");
                None
            })
        };
        let whose = shown.take(MOST_SECRETS).find_map(whose);
        match whose {
            None => Err(unknown_key()),
            Some(key) if key.scope < needed => Err(ApiError::forbidden(
                "this key may ask; for this one with the scope admin is needed",
            )),
            Some(key) => Ok((MAX_BODY, Some(key))),
        }
    }
}

/// What is told of a key that does not hold, or not any more.
pub fn unknown_key() -> ApiError {
    ApiError::unauthorized(
        "this key is not known here; it may have been revoked: open /pair, or make another with `cloister keys add`",
    )
}

fn other_site() -> ApiError {
    ApiError::forbidden("a page of another site may not use this box")
}
