//! What a request's head says of who sends it: a page, a program with a key, a proxy.
//!
//! In: headers. Out: what the gate decides on. Must never take a word of theirs that would let somebody in.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};

use super::super::pair::COOKIE;
use super::super::peer::Peer;

/// The most cookies of our name that are looked at.
pub const MOST_SECRETS: usize = 8;

/// The key that a program sends, or the cookies of a paired browser: another service under the same name can plant one of
/// ours there, beside the true one.
pub fn secrets(headers: &HeaderMap) -> impl Iterator<Item = &str> {
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
pub fn same_origin(headers: &HeaderMap, scheme: &str) -> bool {
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
pub fn sent_by_another_site(request: &Request) -> bool {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let said = request.headers().get("sec-fetch-site");
    !reads && said.is_some_and(|said| said != "same-origin" && said != "none")
}

/// What proxies, load balancers and tunnels say of whom they ask for, beside all that begins with `x-forwarded`.
const PASSED_ON: [&str; 12] = [
    "forwarded",
    "forwarded-for",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
];

/// Who asks by a proxy on this machine, over its loopback or its socket, is not the machine itself: they come from the
/// network, from wherever.
pub fn for_whom(peer: Peer, headers: &HeaderMap) -> Peer {
    let of_proxies = |name: &str| name.starts_with("x-forwarded") || PASSED_ON.contains(&name);
    if !headers.keys().any(|name| of_proxies(name.as_str())) {
        return peer;
    }
    let elsewhere = |encrypted| Peer::Address {
        ip: Ipv4Addr::UNSPECIFIED.into(),
        encrypted,
        key: None,
    };
    match peer {
        Peer::Address { ip, encrypted, .. } if is_own(ip) => elsewhere(encrypted),
        Peer::LocalUser(_) => elsewhere(false),
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
        let over_tcp = || Peer::Address {
            ip: Ipv4Addr::LOCALHOST.into(),
            encrypted: false,
            key: None,
        };
        let is_own = |peer: &Peer| match peer {
            Peer::Address { ip, .. } => is_own(*ip),
            Peer::LocalUser(_) => true,
        };
        for own in [over_tcp(), Peer::LocalUser(Some(0))] {
            let with = |name: &'static str| for_whom(own.clone(), &headers(&[(name, "x")]));
            assert!(is_own(&with("host")) && is_own(&with("x-request-id")));
            for name in PASSED_ON
                .into_iter()
                .chain(["x-forwarded-for", "x-forwarded"])
            {
                assert!(!is_own(&with(name)), "{name}");
            }
        }
    }
}
