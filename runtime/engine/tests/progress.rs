//! While a model is loaded, the share of its weights that is loaded is told.

mod support;

use cloister_engine::{Engine, Options};
use tokio::sync::watch;

#[test]
fn the_share_that_is_loaded_grows_to_the_whole() {
    let (progress, share) = watch::channel(0.0);
    let options = Options {
        n_ctx: Some(256),
        n_slots: 1,
        progress: Some(progress),
        ..Options::default()
    };
    Engine::load(
        &support::cached("smollm2-135m-instruct-q4_1.gguf"),
        &options,
    )
    .expect("it loads");
    assert!(share.has_changed().is_ok_and(|changed| changed));
    assert_eq!(*share.borrow(), 1.0);
}
