//! The engine's state, retained on the broker: queue, speeds, model.
//!
//! In: `state` events of `/api/events`, and the bridge's own figures. Out: both as one JSON object on
//! `state`, at most once a second.
//! Must never leave an old state standing when the engine is gone: then `model` is null.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::bridge::Bridge;
use crate::broker::Publisher;
use crate::client::Engine;
use crate::journal::Journal;
use crate::topics::Topics;

/// The least time between two states.
const PAUSE: Duration = Duration::from_secs(1);

/// Reports until dropped; `latest` hears the engine's state too.
pub async fn report(
    engine: Arc<Engine>,
    publisher: Publisher,
    topics: Topics,
    bridge: Arc<Bridge>,
    journal: Journal,
    latest: watch::Sender<Option<Value>>,
) {
    tokio::join!(
        listen(&engine, &latest),
        heed(&bridge, latest.subscribe()),
        tell(&publisher, &topics, &bridge, &journal, &latest)
    );
}

/// What the bridge itself has to tell.
async fn figures(bridge: &Bridge, journal: &Journal) -> Value {
    let counts = journal.with(|answers| Ok(answers.counts())).await;
    let counts = counts.unwrap_or_default();
    let since_start = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "waiting": counts.unanswered - counts.running.min(counts.unanswered),
        "running": counts.running,
        "answered": since_start(&bridge.counters.answered),
        "refused": since_start(&bridge.counters.refused),
        "ignored": since_start(&bridge.counters.ignored),
    })
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

/// Tells the bridge of the privacy switch. While the engine is gone it stays as it was.
async fn heed(bridge: &Bridge, mut latest: watch::Receiver<Option<Value>>) {
    loop {
        let private = latest
            .borrow_and_update()
            .as_ref()
            .and_then(|state| state["private"].as_bool());
        if let Some(private) = private {
            bridge.heed(private).await;
        }
        if latest.changed().await.is_err() {
            return;
        }
    }
}

async fn tell(
    publisher: &Publisher,
    topics: &Topics,
    bridge: &Bridge,
    journal: &Journal,
    latest: &watch::Sender<Option<Value>>,
) {
    let mut latest = latest.subscribe();
    let mut listening = publisher.listening();
    let mut told = None;
    loop {
        let state = latest.borrow_and_update().clone();
        let anew = listening.has_changed().unwrap_or(false);
        if *listening.borrow_and_update()
            && let Some(mut state) = state
        {
            state["asks"] = figures(bridge, journal).await;
            state["version"] = env!("CARGO_PKG_VERSION").into();
            state["recipes"] = bridge.recipes.figures();
            if anew || told.as_ref() != Some(&state) {
                publisher.offer(topics.state(), state.to_string().into(), true);
                told = Some(state);
            }
        }
        sleep(PAUSE).await;
    }
}
