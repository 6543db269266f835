//! Keeps the connection up: dials, listens, hands over what comes, and dials again after each loss.
//!
//! In: events of the MQTT library. Out: messages with their receipts, and one line in the log for each change.
//! Must never stop trying, and must never let more wait in memory than it has room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{Client, Events, Filters, Happening, Lost, Message, Publisher, Receipt, v4, v5};
use crate::config;

/// The pause before the next try: doubled from the first to the longest, each with some jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause after the broker refused the login. It rarely changes its mind, and hammering it locks
/// accounts.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A connection that held this long was a good one: the next loss starts with the first pause again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// How many KiB of messages may be in memory at once, until they are written down. A flood waits at the
/// broker, or with who floods.
const ROOM_KIB: u32 = 8 * 1024;

/// The connection itself; run it once.
pub struct Link {
    events: Events,
    publisher: Publisher,
    filters: Filters,
    broker: config::Broker,
    room: Arc<Semaphore>,
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
    pub(super) fn of(
        events: Events,
        publisher: Publisher,
        filters: Filters,
        broker: config::Broker,
    ) -> Self {
        Self {
            events,
            publisher,
            filters,
            broker,
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
        }
    }

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
                    info!("connected to the broker at {}", self.broker.address);
                    told = Told::Up;
                    connected_at = Some(Instant::now());
                    self.subscribe();
                    continue;
                }
                Ok(Happening::Message(message, ack)) => {
                    let kib = u32::try_from(message.payload.len() / 1024).unwrap_or(u32::MAX);
                    let room = Arc::clone(&self.room)
                        .acquire_many_owned(kib.saturating_add(1).min(ROOM_KIB))
                        .await
                        .expect("the room is never closed");
                    let receipt = Receipt {
                        ack,
                        connection: connection.load(Ordering::Relaxed),
                        to: receipts.clone(),
                        _room: Some(room),
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
            let address = self.broker.address;
            let failed = |why: &str| {
                if told != Told::Down {
                    warn!("no connection to the broker at {address}: {why}; trying again");
                }
                Told::Down
            };
            let now = match (lost, self.renew_login()) {
                (_, Err(error)) => Told::Obstructed(format!("{error:#}")),
                (Lost::Refused(why), _) => Told::Obstructed(format!(
                    "it refuses the login ({why}): check user and password in --broker or --login-file"
                )),
                (Lost::TakenOver, _) => Told::Obstructed(
                    "it gave our connection to another program of the same name: two bridges have this node's name; give one of them another with --node".into(),
                ),
                (Lost::Obstructed(why), _) => Told::Obstructed(why),
                (Lost::Failed(why), _) => failed(&why),
                (Lost::Closed, _) if connected_at.is_some() => failed("it ended the connection"),
                (Lost::Closed, _) => failed(
                    "it ends the connection in place of an answer to the login; if it does not speak this version of MQTT, give the other with --mqtt-version",
                ),
                (Lost::Ended, _) => return,
            };
            if let Told::Obstructed(why) = &now
                && told != now
            {
                error!("no connection to the broker at {address}: {why}; trying again");
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
        tokio::spawn(async move {
            if let Err(why) = listen(&publisher, &filters).await {
                // The next connection subscribes anew.
                warn!(
                    "the connection was lost before the broker said what we may listen on: {why}"
                );
            }
        });
    }
}

async fn listen(publisher: &Publisher, filters: &Filters) -> Result<(), String> {
    let kept = publisher.client.subscribe(&filters.wanted).await?;
    for kept in &kept {
        error!(
            "the broker does not let us listen on {}: {}; allow it in the broker's configuration",
            kept.filter, kept.why
        );
    }
    let is_kept = |filter: &String| kept.iter().any(|kept| kept.filter == *filter);
    if filters.wanted.first().is_some_and(is_kept) {
        return Ok(());
    }
    let heard: Vec<_> = filters
        .wanted
        .iter()
        .filter(|filter| !is_kept(filter))
        .cloned()
        .collect();
    publisher.listening.send_replace(true);
    info!("listening on {}", heard.join(", "));
    publisher.say("online").await;
    if !filters.unwanted.is_empty()
        && let Err(why) = publisher.client.unsubscribe(&filters.unwanted).await
    {
        let unwanted = filters.unwanted.join(", ");
        warn!("the broker goes on sending what is listened to no longer, {unwanted}: {why}");
    }
    if !filters.welcome.is_empty() {
        for kept in publisher.client.subscribe(&filters.welcome).await? {
            warn!(
                "the broker does not let us listen on {}: {}",
                kept.filter, kept.why
            );
        }
    }
    Ok(())
}

/// The pause, 25 % up or down, so that many boxes do not return to a restarted broker at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is merely on the short side.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.75 + 0.5 * f64::from(byte[0]) / 255.0)
}
