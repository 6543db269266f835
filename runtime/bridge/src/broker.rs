//! The connection to the broker, kept up for as long as the bridge runs.
//!
//! In: messages of the topics that are listened to, and payloads to publish. Out: each message, with a
//! receipt that acknowledges it; each answer, until the broker has acknowledged it, through any number
//! of lost connections.
//! Must never log a payload or a password, and must never write one log line per try: one for each
//! change is enough.
//!
//! Both MQTT versions hide behind [`Client`] and [`Link`]; `v4` and `v5` hold what differs.

mod dial;
mod link;
mod publisher;
mod v4;
mod v5;
mod websocket;

use std::error::Error;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::answers::Target;
use crate::config::{self, MqttVersion, Wire};
use crate::topics::Topics;

pub use link::Link;
pub use publisher::Publisher;

/// The connections to the broker that were opened since the start.
pub fn connections_opened() -> u64 {
    dial::OPENED.load(std::sync::atomic::Ordering::Relaxed)
}

/// How many messages may come in before the first of them is acknowledged.
const MAX_UNACKNOWLEDGED: u16 = 64;

/// What is said of a broker that begins with something else than it has to.
const NO_MQTT: &str = "what it says first is no answer to a login of MQTT";

/// A message of a topic that is listened to.
#[derive(Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Its number in the session, and whether the broker says that it may have sent it before; none at
    /// QoS 0.
    pub packet: Option<(u16, bool)>,
    /// Whether the broker kept it from before we listened.
    pub retained: bool,
    /// MQTT 5 Content Type.
    pub content_type: Option<String>,
    /// MQTT 5 User Properties.
    pub user_properties: Vec<(String, String)>,
    /// MQTT 5 Response Topic.
    pub response_topic: Option<String>,
    /// MQTT 5 Correlation Data.
    pub correlation: Option<Bytes>,
    /// MQTT 5 Message Expiry Interval, in seconds from now.
    pub expiry_seconds: Option<u32>,
}

struct Connect {
    broker: config::Broker,
    wire: Wire,
    login: Option<(String, String)>,
    client_id: String,
    status_topic: String,
}

enum Ack {
    V4(rumqttc_v4::ManualAck),
    V5(rumqttc_v5::ManualAck),
}

/// Acknowledges a message. Without that, the broker sends it again after the next lost connection.
pub struct Receipt {
    ack: Option<Ack>,
    connection: u64,
    to: mpsc::UnboundedSender<(u64, Ack)>,
    /// What the message takes up in memory, until this is given or dropped.
    _room: Option<OwnedSemaphorePermit>,
}

impl Receipt {
    /// One that acknowledges nothing, for what goes the way of a message beside it.
    pub fn of_another(&self) -> Self {
        Self {
            ack: None,
            connection: self.connection,
            to: self.to.clone(),
            _room: None,
        }
    }

    /// Tells the broker that the message is in safe hands. From any thread.
    pub fn give(self) {
        if let Some(ack) = self.ack {
            // Nobody takes it only at the end of the process.
            let _ = self.to.send((self.connection, ack));
        }
    }
}

enum Happening {
    Connected {
        /// The most bytes that the broker takes in one packet, where it can say so.
        largest_packet: Option<u32>,
    },
    Message(Box<Message>, Option<Ack>),
    Other,
}

enum Lost {
    /// The broker does not let us in, and says why.
    Refused(String),
    /// Somebody has to mend something first, and what.
    Obstructed(String),
    /// Somebody else connected under our name.
    TakenOver,
    /// The broker ended the connection without a word.
    Closed,
    /// The broker cannot be reached, or the connection broke.
    Failed(String),
    /// We said goodbye.
    Ended,
}

struct Outgoing {
    target: Target,
    payload: Bytes,
    retain: bool,
    content_type: Option<&'static str>,
}

impl Outgoing {
    fn plain(topic: String, payload: Bytes, retain: bool) -> Self {
        Self {
            target: Target {
                topic,
                ..Target::default()
            },
            payload,
            retain,
            content_type: None,
        }
    }
}

impl Lost {
    /// What an error of the library means that has no meaning of its own.
    fn by(error: &(dyn Error + 'static)) -> Self {
        match dial::Obstacle::among(error) {
            Some(why) => Self::Obstructed(why),
            None => Self::Failed(error.to_string()),
        }
    }
}

/// What the broker does not let us listen on.
struct Kept {
    filter: String,
    why: String,
}

/// What MQTT calls a reason: `NotAuthorized` as "not authorized".
fn in_words(reason: &impl std::fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

enum NotPublished {
    /// The session went away before the broker acknowledged it; publish again.
    Lost,
    /// The broker has no room for it now.
    NoRoom,
    /// The broker will not have it.
    Rejected(String),
    /// We said goodbye.
    Ended,
}

/// What the session stores of both versions return.
type Stored<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

#[derive(Clone)]
enum Client {
    V4(rumqttc_v4::AsyncClient),
    V5(rumqttc_v5::AsyncClient),
}

enum Events {
    V4(Box<rumqttc_v4::EventLoop>),
    V5(Box<rumqttc_v5::EventLoop>),
}

impl Client {
    async fn publish(&self, outgoing: &Outgoing) -> Result<(), NotPublished> {
        match self {
            Self::V4(client) => v4::publish(client, outgoing).await,
            Self::V5(client) => v5::publish(client, outgoing).await,
        }
    }

    fn offer(&self, outgoing: &Outgoing) {
        match self {
            Self::V4(client) => v4::offer(client, outgoing),
            Self::V5(client) => v5::offer(client, outgoing),
        }
    }

    /// Listens on these, and says for each that the broker keeps from us why.
    async fn subscribe(&self, filters: &[String]) -> Result<Vec<Kept>, String> {
        let answers = match self {
            Self::V4(client) => v4::subscribe(client, filters).await?,
            Self::V5(client) => v5::subscribe(client, filters).await?,
        };
        let kept = filters.iter().zip(answers).filter_map(|(filter, why)| {
            let filter = filter.clone();
            why.map(|why| Kept { filter, why })
        });
        Ok(kept.collect())
    }

    async fn unsubscribe(&self, filters: &[String]) -> Result<(), String> {
        match self {
            Self::V4(client) => v4::unsubscribe(client, filters).await,
            Self::V5(client) => v5::unsubscribe(client, filters).await,
        }
    }

    fn acknowledge(&self, ack: Ack) {
        match (self, ack) {
            (Self::V4(client), Ack::V4(ack)) => v4::acknowledge(client, ack),
            (Self::V5(client), Ack::V5(ack)) => v5::acknowledge(client, ack),
            _ => unreachable!("an ack goes back to the client it came from"),
        }
    }

    async fn disconnect(&self) {
        // Fails only when the event loop is gone already.
        match self {
            Self::V4(client) => drop(client.disconnect().await),
            Self::V5(client) => drop(client.disconnect().await),
        }
    }
}

/// What the broker is to send us.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// What is listened to. Without the first, nothing works.
    pub wanted: Vec<String>,
    /// What may be kept from us: nothing needs it.
    pub welcome: Vec<String>,
    /// What was listened to once: a session that stayed with the broker still holds it.
    pub unwanted: Vec<String>,
}

/// Prepares the connection; nothing is dialled before [`Link::run`].
///
/// # Errors
/// The file of the login cannot be read any more.
pub fn prepare(
    broker: &config::Broker,
    wire: Wire,
    client_id: String,
    topics: &Topics,
    filters: Filters,
) -> anyhow::Result<(Publisher, Link)> {
    let connect = Connect {
        broker: broker.clone(),
        wire,
        login: broker.login()?,
        client_id,
        status_topic: topics.status(),
    };
    let (client, events) = match wire.version {
        MqttVersion::V3_1_1 => {
            let (client, events) = v4::connect(&connect);
            (Client::V4(client), Events::V4(Box::new(events)))
        }
        MqttVersion::V5 => {
            let (client, events) = v5::connect(&connect);
            (Client::V5(client), Events::V5(Box::new(events)))
        }
    };
    let publisher = Publisher::of(client, connect.status_topic);
    let link = Link::of(events, publisher.clone(), filters, broker.clone());
    Ok((publisher, link))
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn a_reason_is_told_in_words() {
        use rumqttc_v5::mqttbytes::v5::ConnectReturnCode;
        let reason = ConnectReturnCode::ClientIdentifierNotValid;
        assert_eq!(in_words(&reason), "client identifier not valid");
    }
}
