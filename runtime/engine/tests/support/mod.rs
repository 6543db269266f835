//! What the tests of the engine share.

use std::path::PathBuf;

/// A file that `tests/fetch` brings.
pub fn cached(name: &str) -> PathBuf {
    let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cloister/cache").into(),
        PathBuf::from,
    );
    let path = cache.join(name);
    assert!(
        path.exists(),
        "{} is missing: run tests/fetch",
        path.display()
    );
    path
}
