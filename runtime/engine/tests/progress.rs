//! While a model is loaded, the share of its weights that is loaded is told.

use std::path::PathBuf;

use cloister_engine::{Engine, Options};
use tokio::sync::watch;

#[test]
fn the_share_that_is_loaded_grows_to_the_whole() {
    let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cloister/cache").into(),
        PathBuf::from,
    );
    let (progress, share) = watch::channel(0.0);
    let options = Options {
        n_ctx: Some(256),
        n_slots: 1,
        progress: Some(progress),
        ..Options::default()
    };
    Engine::load(&cache.join("smollm2-135m-instruct-q4_1.gguf"), &options).expect("it loads");
    assert!(share.has_changed().is_ok_and(|changed| changed));
    assert_eq!(*share.borrow(), 1.0);
}
