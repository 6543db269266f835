//! Publishes answers, until the broker has them.
//!
//! In: what is due in the journal. Out: messages; in the journal, that they are delivered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Bridge;
use crate::answer::{self, AskError, ErrorCode};
use crate::answers::{Delivery, Target};
use crate::journal::now;

impl Bridge {
    pub(super) async fn publish(self: Arc<Self>) {
        loop {
            let free = self.deliveries.available_permits();
            let due = match self.journal.with(move |answers| answers.due(free)).await {
                Ok(due) => due,
                Err(failure) => {
                    self.wait_after(&failure).await;
                    continue;
                }
            };
            if due.is_empty() {
                self.journal.due.notified().await;
                continue;
            }
            for delivery in due {
                let place = Arc::clone(&self.deliveries)
                    .acquire_owned()
                    .await
                    .expect("the places are never closed");
                let bridge = Arc::clone(&self);
                tokio::spawn(async move { bridge.deliver(delivery, place).await });
            }
        }
    }

    async fn deliver(&self, delivery: Delivery, place: OwnedSemaphorePermit) {
        let Delivery {
            number,
            target,
            payload,
        } = delivery;
        let delivered = match self.to_publish(&target, payload) {
            Some(payload) => self.publisher.deliver(target, payload).await,
            None => true,
        };
        if !delivered {
            return;
        }
        while let Err(failure) = self
            .journal
            .with(move |answers| answers.delivered(number, now()))
            .await
        {
            self.wait_after(&failure).await;
        }
        drop(place);
        // There is room for the next.
        self.journal.due.notify_one();
    }

    fn to_publish(&self, target: &Target, payload: Bytes) -> Option<Bytes> {
        if target.bare {
            return answer::bare_text(&payload);
        }
        if self.publisher.fits(target, &payload) {
            return Some(payload);
        }
        let error = AskError::new(
            ErrorCode::Internal,
            format!(
                "the answer has {} bytes, more than the broker takes; ask for fewer tokens or raise the broker's max_packet_size",
                payload.len()
            ),
        );
        Some(error.payload(answer::id_of(&payload).as_ref()))
    }
}
