//! The engine's state, retained on the broker: queue, speeds, model.
//!
//! In: `state` events of `/api/events`. Out: the same JSON on `state`, at most once a second.
//! Must never leave an old state standing when the engine is gone: then `model` is null.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::broker::Publisher;
use crate::client::Engine;
use crate::topics::Topics;

/// The least time between two states.
const PAUSE: Duration = Duration::from_secs(1);

/// Reports until dropped.
pub async fn report(engine: Arc<Engine>, publisher: Publisher, topics: Topics) {
    let latest = watch::Sender::new(None);
    tokio::join!(listen(&engine, &latest), tell(&publisher, &topics, &latest));
}

async fn listen(engine: &Engine, latest: &watch::Sender<Option<Value>>) {
    let mut reachable = None;
    loop {
        let error = engine
            .watch(|state| {
                if reachable != Some(true) {
                    info!("the engine is there");
                    reachable = Some(true);
                }
                latest.send_replace(Some(state));
            })
            .await;
        if reachable != Some(false) {
            warn!("{}", error.message);
            reachable = Some(false);
        }
        latest.send_if_modified(|state| {
            let gone = Some(json!({"model": null}));
            let changed = *state != gone;
            *state = gone;
            changed
        });
        sleep(PAUSE).await;
    }
}

async fn tell(publisher: &Publisher, topics: &Topics, latest: &watch::Sender<Option<Value>>) {
    let mut latest = latest.subscribe();
    let mut listening = publisher.listening();
    loop {
        let state = latest.borrow_and_update().clone();
        if *listening.borrow_and_update()
            && let Some(state) = state
        {
            publisher.offer(topics.state(), state.to_string().into(), true);
        }
        sleep(PAUSE).await;
        // Both senders outlive this loop.
        tokio::select! {
            _ = latest.changed() => {}
            _ = listening.changed() => {}
        }
    }
}
