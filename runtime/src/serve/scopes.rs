//! What each path needs of who comes from the network: the one table of it.
//!
//! `/openapi.json` tells it, and `docs/api.md` says it in words. Who comes from the machine itself is the owner and
//! needs nothing. A path that is not in the table needs all there is.

use crate::access::Scope;

/// What is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it tells nothing of what is asked here.
    Nothing,
    /// A key, or a paired browser, with this scope or a higher one.
    Scope(Scope),
}

const ASK: Needs = Needs::Scope(Scope::Ask);

/// The paths, as the router has them.
pub const TABLE: &[(&str, Needs)] = &[
    ("/health", Needs::Nothing),
    ("/openapi.json", Needs::Nothing),
    ("/pair", Needs::Nothing),
    ("/v1/chat/completions", ASK),
    ("/v1/responses", ASK),
    ("/v1/embeddings", ASK),
    ("/v1/models", ASK),
    ("/v1/models/{id}", ASK),
    ("/metrics", ASK),
    ("/api/events", ASK),
    ("/api/render", ASK),
    ("/api/privacy", ASK),
    ("/api/version", ASK),
    ("/api/tags", ASK),
    ("/api/ps", ASK),
    ("/api/show", ASK),
    ("/api/pull", ASK),
    ("/api/chat", ASK),
    ("/api/generate", ASK),
    ("/api/embed", ASK),
    ("/api/embeddings", ASK),
];

/// What a path of the router needs.
pub fn needs(path: &str) -> Needs {
    TABLE
        .iter()
        .find(|(known, _)| *known == path)
        .map_or(Needs::Scope(Scope::Admin), |(_, needs)| *needs)
}
