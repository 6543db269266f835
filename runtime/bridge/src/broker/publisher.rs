//! Publishes: what must arrive, again until the broker has it; what passes, while there is a connection.
//!
//! In: topics and payloads. Out: whether the broker has them. Must never give up an answer because a connection
//! or a session was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, warn};

use super::{Client, NotPublished, Outgoing};
use crate::answers::Target;

/// The pause after the broker said that it has no room for a message.
const QUOTA_PAUSE: Duration = Duration::from_secs(1);

/// More than MQTT adds to topic, properties and payload, in bytes.
const PACKET_OVERHEAD: usize = 96;

/// What is to be published goes in here. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    pub(super) client: Client,
    status_topic: String,
    pub(super) listening: Arc<watch::Sender<bool>>,
    pub(super) largest_packet: Arc<AtomicU32>,
}

impl Publisher {
    pub(super) fn of(client: Client, status_topic: String) -> Self {
        Self {
            client,
            status_topic,
            listening: Arc::new(watch::Sender::new(false)),
            largest_packet: Arc::new(AtomicU32::new(u32::MAX)),
        }
    }

    /// Whether the broker takes a packet with this payload. One that it does not take ends the
    /// connection, and would be sent again on the next.
    pub fn fits(&self, target: &Target, payload: &Bytes) -> bool {
        let properties: usize = target
            .user_properties
            .iter()
            .map(|(name, value)| name.len() + value.len() + 5)
            .sum();
        let correlation = target.correlation.as_ref().map_or(0, Bytes::len);
        let packet =
            target.topic.len() + properties + correlation + payload.len() + PACKET_OVERHEAD;
        packet as u64 <= u64::from(self.largest_packet.load(Ordering::Relaxed))
    }

    /// Publishes an answer at QoS 1, again after each lost session, and returns when the broker has it
    /// or says that it will never take it. False if we said goodbye before.
    pub async fn deliver(&self, target: Target, payload: Bytes) -> bool {
        if !self.fits(&target, &payload) {
            error!("an answer is dropped: the broker takes no packet of that size");
            return true;
        }
        let content_type = if target.bare {
            "text/plain; charset=utf-8"
        } else {
            "application/json"
        };
        self.publish_until_taken(&Outgoing {
            target,
            payload,
            retain: false,
            content_type: Some(content_type),
        })
        .await
    }

    /// Has the broker retain this; nothing, if it is empty.
    pub async fn retain(&self, topic: String, payload: Bytes) {
        let outgoing = Outgoing::plain(topic, payload, true);
        if !self.fits(&outgoing.target, &outgoing.payload) {
            let (topic, bytes) = (&outgoing.target.topic, outgoing.payload.len());
            warn!("the broker takes no packet of the {bytes} bytes for {topic}");
            return;
        }
        self.publish_until_taken(&outgoing).await;
    }

    /// Has the broker forget what it retains on this topic.
    pub async fn clear(&self, topic: String) {
        self.retain(topic, Bytes::new()).await;
    }

    async fn publish_until_taken(&self, outgoing: &Outgoing) -> bool {
        loop {
            match self.client.publish(outgoing).await {
                Ok(()) => return true,
                Err(NotPublished::Ended) => return false,
                Err(NotPublished::Lost) => {}
                Err(NotPublished::NoRoom) => sleep(QUOTA_PAUSE).await,
                Err(NotPublished::Rejected(why)) => {
                    // Of an answer, the topic is in the words of who asked.
                    match outgoing.retain {
                        true => error!(
                            topic = outgoing.target.topic,
                            "the broker will not take a message: {why}"
                        ),
                        false => error!("the broker will not take an answer: {why}"),
                    }
                    return true;
                }
            }
        }
    }

    /// Publishes something of passing interest at QoS 0: dropped while there is no connection.
    pub fn offer(&self, topic: String, payload: Bytes, retain: bool) {
        if *self.listening.borrow() {
            self.client.offer(&Outgoing::plain(topic, payload, retain));
        }
    }

    /// Whether we are connected and subscribed, and each change of it.
    pub fn listening(&self) -> watch::Receiver<bool> {
        self.listening.subscribe()
    }

    pub(super) async fn say(&self, status: &'static str) {
        let payload = Bytes::from_static(status.as_bytes());
        let outgoing = Outgoing::plain(self.status_topic.clone(), payload, true);
        self.publish_until_taken(&outgoing).await;
    }

    /// Says goodbye: publishes `offline`, disconnects. While there is no connection this waits for one,
    /// so its caller must bound its time.
    pub async fn close(&self) {
        self.say("offline").await;
        self.client.disconnect().await;
    }
}
