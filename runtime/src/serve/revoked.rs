//! A key that is revoked ends what was asked with it, too.
//!
//! In: an answer in the making, and one that is being sent. Out: the same, until the key is no longer known.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;

use super::gate::Gate;
use super::gate::body::next;
use crate::access::Key;

/// How often it is looked whether a key still holds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What `answer` comes to. None when `key` was revoked before.
pub async fn unless<T>(
    gate: &Gate,
    key: Option<&Key>,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let Some(key) = key else {
        return Some(answer.await);
    };
    tokio::select! {
        answer = answer => Some(answer),
        () = revoked(gate, key) => None,
    }
}

/// `body`, broken off when `key` is revoked.
pub fn breaks_off(gate: Arc<Gate>, key: Key, body: Body) -> Body {
    let mut chunks = body.into_data_stream();
    Body::from_stream(async_stream::stream! {
        // One for all of it: what comes often must not put off the next look.
        let revoked = revoked(&gate, &key);
        tokio::pin!(revoked);
        loop {
            tokio::select! {
                chunk = next(&mut chunks) => match chunk {
                    Some(chunk) => yield chunk,
                    None => break,
                },
                () = &mut revoked => {
                    yield Err(axum::Error::new("the key was revoked"));
                    break;
                }
            }
        }
    })
}

/// Waits until `key` is not known any more.
async fn revoked(gate: &Gate, key: &Key) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // A book that cannot be read lets nobody in.
        if !gate.access.knows(key).unwrap_or(false) {
            return;
        }
    }
}
