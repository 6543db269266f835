//! What every request must pass before anything reads it.
//!
//! In: a request's head and who sends it. Out: the request, or why it may not. In this order: the box's name, whose page
//! sends it, how often this client comes, who it is, how large the body is, how fast it arrives, and how many bytes of
//! bodies there are already (`bodies.rs`). Browsers are the
//! reason for the first two: a page of another site can make them ask here, by a name of its own that it lets point
//! at this box (DNS rebinding) or with a form. No answer ever carries a header that would let it read one (CORS).

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use futures_core::Stream;

use super::api_error::ApiError;
use super::bodies::{Bodies, Room};
use super::names::Names;
use super::pair::COOKIE;
use super::peer::Peer;
use super::rate::{Rate, Wrong};
use super::scopes::{Needs, needs};
use super::{MAX_BODY, files, page, revoked};
use crate::access::{Access, Key, Scope};

/// The longest time that a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// The longest time in which nothing of it arrives.
const BODY_PAUSE: Duration = Duration::from_secs(10);
/// The most bytes of a refused request that are waited for, and how long.
const MOST_DISCARDED: usize = 256 << 10;
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
/// The most cookies of our name that are looked at.
const MOST_SECRETS: usize = 8;
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
            if is_file(&request) {
                return next.run(request).await;
            }
            let bodies = match &peer {
                Peer::Address { ip, .. } if !is_own(*ip) => &gate.network,
                _ => &gate.own,
            };
            match whole(request, largest, bodies.room()).await {
                Ok((request, room)) => {
                    let response = revoked::unless(gate, key.as_ref(), next.run(request)).await;
                    // What was made of the body is gone, too.
                    drop(room);
                    match (response, key) {
                        (None, _) => unknown_key().into_response(),
                        (Some(response), None) => response,
                        (Some(response), Some(key)) => {
                            response.map(|body| revoked::breaks_off(gate.clone(), key, body))
                        }
                    }
                }
                Err(error) => error.into_response(),
            }
        }
        // A person is led to where they can be let in.
        Err(error) if error.status() == 401 && page::is_opened(&request) => {
            Redirect::to("/pair").into_response()
        }
        Err(error) => {
            // A connection that is closed on what was sent loses the answer, too.
            let _ = tokio::time::timeout(DISCARD_WITHIN, discarded(request.into_body())).await;
            error.into_response()
        }
    }
}

/// Whether its body goes to the disk, piece by piece.
fn is_file(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| path.as_str() == files::PATH)
}

/// Reads a body as far as a refused client may go on sending, and forgets it.
async fn discarded(body: Body) {
    let mut left = MOST_DISCARDED;
    let mut chunks = body.into_data_stream();
    while let Some(Ok(bytes)) = next(&mut chunks).await {
        match left.checked_sub(bytes.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// The next piece of a body.
pub async fn next(chunks: &mut BodyDataStream) -> Option<Result<Bytes, axum::Error>> {
    std::future::poll_fn(|context| Pin::new(&mut *chunks).poll_next(context)).await
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

fn unknown_key() -> ApiError {
    ApiError::unauthorized(
        "this key is not known here; it may have been revoked: open /pair, or make another with `cloister keys add`",
    )
}

fn other_site() -> ApiError {
    ApiError::forbidden("a page of another site may not use this box")
}

/// Reads the whole body, as long and as slow as it may be, while there is room for it.
async fn whole(
    request: Request,
    largest: usize,
    mut room: Room<'_>,
) -> Result<(Request, Room<'_>), ApiError> {
    let (parts, body) = request.into_parts();
    let said = parts.headers.get(header::CONTENT_LENGTH);
    let said = said.and_then(|said| said.to_str().ok()?.parse().ok());
    if said.is_some_and(|said: u64| said > largest as u64) {
        return Err(ApiError::body_too_large(largest));
    }
    // Told before the client sends it.
    room.grow_to(said.unwrap_or_default() as usize)?;
    let began = Instant::now();
    let mut read = Vec::new();
    let mut chunks = body.into_data_stream();
    loop {
        let left = BODY_WITHIN.saturating_sub(began.elapsed()).min(BODY_PAUSE);
        let chunk = tokio::time::timeout(left, next(&mut chunks));
        match chunk.await {
            Err(_) => return Err(ApiError::too_slow()),
            Ok(None) => return Ok((Request::from_parts(parts, Body::from(read)), room)),
            Ok(Some(Err(_))) => return Err(ApiError::invalid("the body did not arrive")),
            Ok(Some(Ok(bytes))) if read.len() + bytes.len() > largest => {
                return Err(ApiError::body_too_large(largest));
            }
            Ok(Some(Ok(bytes))) => {
                room.grow_to(read.len() + bytes.len())?;
                read.extend_from_slice(&bytes);
            }
        }
    }
}

/// The key that a program sends, or the cookies of a paired browser: another service under the same name can plant one of
/// ours there, beside the true one.
fn secrets(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let sent = headers.get(header::AUTHORIZATION);
    let bearer = sent.and_then(|sent| {
        let (scheme, key) = sent.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter(move |_| sent.is_none())
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    bearer.into_iter().chain(cookies)
}

/// Whether the request comes from the page itself, or from a program, which sends no origin.
fn same_origin(headers: &HeaderMap, scheme: &str) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let origin = origin.as_bytes().strip_prefix(scheme.as_bytes());
    let origin = origin.and_then(|rest| rest.strip_prefix(b"://"));
    origins.next().is_none() && origin.is_some() && origin == host
}

/// Whether a browser says that what changes something here was begun by another site. It says so where it leaves
/// the origin out, too.
fn sent_by_another_site(request: &Request) -> bool {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let said = request.headers().get("sec-fetch-site");
    !reads && said.is_some_and(|said| said != "same-origin" && said != "none")
}

/// What proxies say of whom they ask for.
const PASSED_ON: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Who asks by a proxy on this machine is not the machine itself: they come from the network, from wherever.
fn for_whom(peer: Peer, headers: &HeaderMap) -> Peer {
    let passed_on = || PASSED_ON.iter().any(|name| headers.contains_key(*name));
    match peer {
        Peer::Address { ip, encrypted, key } if is_own(ip) && passed_on() => Peer::Address {
            ip: Ipv4Addr::UNSPECIFIED.into(),
            encrypted,
            key,
        },
        peer => peer,
    }
}

/// Whether this address is the machine itself, in whichever form it is written.
pub fn is_own(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("valid"));
        }
        headers
    }

    fn allowed(origin: Option<&str>) -> bool {
        let mut sent = headers(&[("host", "box:8080")]);
        if let Some(origin) = origin {
            sent.insert(header::ORIGIN, origin.parse().expect("valid"));
        }
        same_origin(&sent, "http")
    }

    #[test]
    fn only_programs_and_the_own_page_may_ask() {
        assert!(allowed(None));
        assert!(allowed(Some("http://box:8080")));
        for other in [
            "http://evil.example",
            "http://box:8081",
            "https://box:8080",
            "null",
            "",
            "box:8080",
        ] {
            assert!(!allowed(Some(other)), "{other}");
        }
        let two = headers(&[
            ("host", "box"),
            ("origin", "http://box"),
            ("origin", "http://evil.example"),
        ]);
        assert!(!same_origin(&two, "http"));
        assert!(!same_origin(&headers(&[("origin", "http://")]), "http"));
    }

    #[test]
    fn a_secret_is_a_bearer_or_the_cookie_and_nothing_that_is_near() {
        let of = |name, value| {
            secrets(&headers(&[(name, value)]))
                .next()
                .map(str::to_owned)
        };
        assert_eq!(of("authorization", "Bearer k").as_deref(), Some("k"));
        assert_eq!(of("authorization", "bearer  k").as_deref(), Some("k"));
        assert_eq!(of("authorization", "Basic k"), None);
        assert_eq!(of("authorization", "k"), None);
        assert_eq!(of("cookie", "a=b; cloister=k; c=d").as_deref(), Some("k"));
        assert_eq!(of("cookie", "cloister2=k"), None);
        assert_eq!(of("cookie", "xcloister=k"), None);
        assert_eq!(secrets(&HeaderMap::new()).next(), None);
        let planted = headers(&[("cookie", "cloister=junk; cloister=k")]);
        assert!(secrets(&planted).eq(["junk", "k"]));
        let both = headers(&[("authorization", "Basic x"), ("cookie", "cloister=k")]);
        assert_eq!(secrets(&both).next(), None);
    }

    #[test]
    fn who_asks_by_a_proxy_is_not_the_machine_itself() {
        let own = || Peer::Address {
            ip: Ipv4Addr::LOCALHOST.into(),
            encrypted: false,
            key: None,
        };
        let is_own = |peer| matches!(peer, Peer::Address { ip, .. } if is_own(ip));
        assert!(is_own(for_whom(own(), &headers(&[("host", "x")]))));
        for name in PASSED_ON {
            assert!(!is_own(for_whom(own(), &headers(&[(name, "x")]))), "{name}");
        }
    }
}
