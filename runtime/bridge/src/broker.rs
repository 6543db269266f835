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
mod v4;
mod v5;
mod websocket;

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::answers::Target;
use crate::config::{self, MqttVersion, Wire};
use crate::topics::Topics;

/// The pause before the next try: doubled from the first to the longest, each with some jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause after the broker refused the login. It rarely changes its mind, and hammering it locks
/// accounts.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A connection that held this long was a good one: the next loss starts with the first pause again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// The pause after the broker said that it has no room for a message.
const QUOTA_PAUSE: Duration = Duration::from_secs(1);

/// More than MQTT adds to topic, properties and payload, in bytes.
const PACKET_OVERHEAD: usize = 96;

/// How many messages may come in before the first of them is acknowledged.
const MAX_UNACKNOWLEDGED: u16 = 64;

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
}

impl Receipt {
    /// One that acknowledges nothing, for what goes the way of a message beside it.
    pub fn of_another(&self) -> Self {
        Self {
            ack: None,
            connection: self.connection,
            to: self.to.clone(),
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

    async fn subscribe(&self, topics: Vec<String>) -> Result<(), String> {
        match self {
            Self::V4(client) => v4::subscribe(client, topics).await,
            Self::V5(client) => v5::subscribe(client, topics).await,
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

/// What is to be published goes in here. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    status_topic: String,
    listening: Arc<watch::Sender<bool>>,
    largest_packet: Arc<AtomicU32>,
}

impl Publisher {
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
                    error!(
                        topic = outgoing.target.topic,
                        "the broker will not take a message: {why}"
                    );
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

    async fn say(&self, status: &'static str) {
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

/// The connection itself; run it once.
pub struct Link {
    events: Events,
    publisher: Publisher,
    topics: Topics,
    filters: Vec<String>,
    broker: config::Broker,
    address: SocketAddr,
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
    further_filters: Vec<String>,
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
    let publisher = Publisher {
        client,
        status_topic: connect.status_topic,
        listening: Arc::new(watch::Sender::new(false)),
        largest_packet: Arc::new(AtomicU32::new(u32::MAX)),
    };
    let link = Link {
        events,
        publisher: publisher.clone(),
        topics: topics.clone(),
        filters: topics
            .filters()
            .into_iter()
            .chain(further_filters)
            .collect(),
        broker: broker.clone(),
        address: broker.address,
    };
    Ok((publisher, link))
}

/// What was last told in the log about the connection.
#[derive(PartialEq)]
enum Told {
    Nothing,
    Up,
    Down,
    /// Somebody has to mend this.
    Obstructed(String),
}

impl Link {
    /// Connects, listens, and connects again after each loss, until [`Publisher::close`].
    ///
    /// `on_message` must be quick: no message moves while it runs.
    pub async fn run<Taken: Future<Output = ()>>(
        mut self,
        mut on_message: impl FnMut(Message, Receipt) -> Taken,
    ) {
        let connection = Arc::new(AtomicU64::new(0));
        let (receipts, mut given) = mpsc::unbounded_channel();
        let client = self.publisher.client.clone();
        let current = Arc::clone(&connection);
        tokio::spawn(async move {
            while let Some((connection, ack)) = given.recv().await {
                // The number of a message is its own in one connection only: after it, the broker sends
                // again what was not acknowledged, under the same number or, without a session, not at all.
                if connection == current.load(Ordering::Relaxed) {
                    client.acknowledge(ack);
                }
            }
        });
        let mut told = Told::Nothing;
        let mut pause = FIRST_PAUSE;
        let mut connected_at = None;
        loop {
            let lost = match self.poll().await {
                Ok(Happening::Connected { largest_packet }) => {
                    self.publisher
                        .largest_packet
                        .store(largest_packet.unwrap_or(u32::MAX), Ordering::Relaxed);
                    info!("connected to the broker at {}", self.address);
                    told = Told::Up;
                    connected_at = Some(Instant::now());
                    self.subscribe();
                    continue;
                }
                Ok(Happening::Message(message, ack)) => {
                    let receipt = Receipt {
                        ack,
                        connection: connection.load(Ordering::Relaxed),
                        to: receipts.clone(),
                    };
                    on_message(*message, receipt).await;
                    continue;
                }
                Ok(Happening::Other) => continue,
                Err(Lost::Ended) => return,
                Err(lost) => lost,
            };
            connection.fetch_add(1, Ordering::Relaxed);
            self.publisher.listening.send_replace(false);
            let lasting = matches!(lost, Lost::Refused(_) | Lost::TakenOver);
            let now = match (lost, self.renew_login()) {
                (_, Err(error)) => Told::Obstructed(format!("{error:#}")),
                (Lost::Refused(why), _) => Told::Obstructed(format!(
                    "it refuses the login ({why}): check user and password in --broker or --login-file"
                )),
                (Lost::TakenOver, _) => Told::Obstructed(
                    "it gave our connection to another program of the same name: two bridges have this node's name; give one of them another with --node".into(),
                ),
                (Lost::Obstructed(why), _) => Told::Obstructed(why),
                (Lost::Failed(why), _) => {
                    if told != Told::Down {
                        warn!(
                            "no connection to the broker at {}: {why}; trying again",
                            self.address
                        );
                    }
                    Told::Down
                }
                (Lost::Ended, _) => return,
            };
            if let Told::Obstructed(why) = &now
                && told != now
            {
                error!(
                    "no connection to the broker at {}: {why}; trying again",
                    self.address
                );
            }
            told = now;
            if connected_at
                .take()
                .is_some_and(|since: Instant| since.elapsed() > GOOD_CONNECTION)
            {
                pause = FIRST_PAUSE;
            }
            if lasting {
                sleep(jittered(REFUSED_PAUSE)).await;
            } else {
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Takes user and password as they are now: the file that holds them may have been mended.
    fn renew_login(&mut self) -> anyhow::Result<()> {
        if let Some((user, password)) = self.broker.login()? {
            match &mut self.events {
                Events::V4(events) => {
                    events.mqtt_options.set_credentials(user, password);
                }
                Events::V5(events) => {
                    events.options.set_credentials(user, password);
                }
            }
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<Happening, Lost> {
        match (&mut self.events, &self.publisher.client) {
            (Events::V4(events), Client::V4(client)) => v4::poll(events, client).await,
            (Events::V5(events), Client::V5(client)) => v5::poll(events, client).await,
            _ => unreachable!("client and events are made together"),
        }
    }

    /// Subscribes and reports `online`, beside the event loop, which has to move for it.
    fn subscribe(&self) {
        let publisher = self.publisher.clone();
        let filters = self.filters.clone();
        let home_assistant = self.topics.home_assistant();
        tokio::spawn(async move {
            let shown = filters.join(", ");
            match publisher.client.subscribe(filters).await {
                Ok(()) => {
                    publisher.listening.send_replace(true);
                    info!("listening on {shown}");
                    publisher.say("online").await;
                }
                Err(why) => error!("the broker does not let us listen on {shown}: {why}"),
            }
            // By itself: a broker that keeps it from us keeps nothing that we need.
            if let Some(topic) = home_assistant
                && let Err(why) = publisher.client.subscribe(vec![topic.clone()]).await
            {
                warn!("the broker does not let us listen on {topic}: {why}");
            }
        });
    }
}

/// The pause, 25 % up or down, so that many boxes do not return to a restarted broker at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is merely on the short side.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.75 + 0.5 * f64::from(byte[0]) / 255.0)
}
