//! What stands on the broker for those who come later: the device for Home Assistant, and what is set.
//!
//! In: the engine's list of models, what is set, the birth of Home Assistant. Out: retained messages, published
//! again at every connection. Must never leave a device announced that is not to be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::broker::Publisher;
use crate::choices::{Choices, Setting};
use crate::client::Engine;
use crate::discovery::{self, Measured};
use crate::topics::Topics;

/// How often it is looked whether the engine's folder holds other models than before.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Announces until dropped. `latest` is the engine's state.
pub async fn announce(
    engine: Arc<Engine>,
    publisher: Publisher,
    topics: Topics,
    choices: Arc<Choices>,
    latest: watch::Receiver<Option<Value>>,
) {
    tokio::join!(
        look(&engine, &choices, latest.clone()),
        tell(&publisher, &topics, &choices, latest)
    );
}

async fn look(engine: &Engine, choices: &Choices, mut latest: watch::Receiver<Option<Value>>) {
    let model = |state: &Option<Value>| state.as_ref().map(|state| state["model"].clone());
    loop {
        let seen = model(&latest.borrow_and_update());
        // Without an engine the last list stands.
        if let Ok(models) = engine.models().await {
            choices.there_are(models);
        }
        let another = latest.wait_for(|state| model(state) != seen);
        let _ = timeout(LOOK_AGAIN, another).await;
    }
}

async fn tell(
    publisher: &Publisher,
    topics: &Topics,
    choices: &Choices,
    mut latest: watch::Receiver<Option<Value>>,
) {
    let mut listening = publisher.listening();
    let (mut models, mut defaults) = (choices.models(), choices.defaults());
    let mut told = HashMap::new();
    let mut measured = Measured::default();
    loop {
        measured.look(latest.borrow_and_update().as_ref());
        if *listening.borrow_and_update() {
            let (models, defaults) = (
                models.borrow_and_update().clone(),
                defaults.borrow_and_update().clone(),
            );
            let value = |setting| Bytes::from(defaults.value(setting).to_owned());
            let mut messages = vec![
                (topics.setting(Setting::Model), value(Setting::Model)),
                (topics.setting(Setting::Think), value(Setting::Think)),
            ];
            let chosen = defaults.value(Setting::Model);
            let device = match topics.are_announced() {
                true => discovery::device(topics, &models, chosen, measured)
                    .to_string()
                    .into(),
                false => Bytes::new(),
            };
            messages.push((topics.discovery(), device));
            for (topic, payload) in messages {
                if told.get(&topic) != Some(&payload) {
                    publisher.retain(topic.clone(), payload.clone()).await;
                    told.insert(topic, payload);
                }
            }
        }
        let anew = tokio::select! {
            _ = listening.changed() => true,
            () = choices.renew.notified() => true,
            _ = models.changed() => false,
            _ = defaults.changed() => false,
            () = more_is_measured(&mut latest, measured) => false,
        };
        if anew {
            // What is cleared stays so.
            told.retain(|_, payload: &mut Bytes| payload.is_empty());
        }
    }
}

async fn more_is_measured(latest: &mut watch::Receiver<Option<Value>>, so_far: Measured) {
    let more = latest.wait_for(|state| {
        let mut measured = so_far;
        measured.look(state.as_ref());
        measured != so_far
    });
    // Nobody tells any more only at the end of the process.
    if more.await.is_err() {
        std::future::pending().await
    }
}
