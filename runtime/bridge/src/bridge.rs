//! From a message to its answer: the way of one ask through the bridge. [`intake`] writes it down, [`work`]
//! has it answered, [`deliver`] publishes that; here is what they share, and what else is said to a box.
//!
//! In: messages of the topics that are listened to. Out: one answer for each ask, and the pieces of
//! those that want them.
//! Must never leave an ask without its answer, run one twice at a time, or log what it says.

mod deliver;
mod intake;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::answer::{AskError, ErrorCode, Reply};
use crate::answers::Moment;
use crate::broker::{Message, Publisher, Receipt};
use crate::choices::{self, Choices, Defaults, Setting};
use crate::client::Engine;
use crate::journal::{Failure, Journal, now};
use crate::recipes::Recipes;
use crate::topics::{AskId, Place, Purpose, Topics};

/// How many asks are put to the engine at once; the others wait in the journal, in order.
const AT_ONCE: usize = 8;

/// How many answers are on their way to the broker at once.
const DELIVERIES_AT_ONCE: usize = 32;

/// Everything an ask meets on its way. Cheap to share.
pub struct Bridge {
    topics: Topics,
    engine: Arc<Engine>,
    publisher: Publisher,
    journal: Journal,
    choices: Arc<Choices>,
    /// Whether a model is being loaded because somebody wished so.
    warms_up: Arc<AtomicBool>,
    /// How many empty messages of our own are to come back that clear a retained ask.
    clears: AtomicU64,
    /// Whether the privacy switch of the box is on.
    private: AtomicBool,
    /// What is asked by itself.
    pub recipes: Recipes,
    places: Arc<Semaphore>,
    /// Read while an ask is with the engine beside others, written while one is there alone.
    attempts: RwLock<()>,
    deliveries: Arc<Semaphore>,
    /// What has happened since the start.
    pub counters: Counters,
}

/// What has happened since the start, for `state`.
#[derive(Default)]
pub struct Counters {
    /// Asks that were answered.
    pub answered: AtomicU64,
    /// Asks that were told that they cannot be had.
    pub refused: AtomicU64,
    /// Messages that say nothing that can be done, and name nobody to tell.
    pub ignored: AtomicU64,
}

/// What the bridge has to know of an ask besides the request.
#[derive(Default, Serialize, Deserialize)]
struct Options {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asker: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
    /// When its answer is of no use any more, complete or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer_by: Option<Moment>,
    /// The recipe that asks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
    /// What it asks for where it does not say.
    #[serde(default, skip_serializing_if = "Defaults::are_unset")]
    defaults: Defaults,
}

impl Bridge {
    /// A bridge between these.
    pub fn between(
        topics: Topics,
        engine: Arc<Engine>,
        publisher: Publisher,
        journal: Journal,
        choices: Arc<Choices>,
        recipes: Recipes,
    ) -> Arc<Self> {
        Arc::new(Self {
            topics,
            engine,
            publisher,
            journal,
            choices,
            warms_up: Arc::default(),
            clears: AtomicU64::new(0),
            private: AtomicBool::new(false),
            recipes,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            attempts: RwLock::new(()),
            deliveries: Arc::new(Semaphore::new(DELIVERIES_AT_ONCE)),
            counters: Counters::default(),
        })
    }

    /// Takes a message: enters an ask into the journal, or cancels one. Returns once the journal has a
    /// place for it; `receipt` is given when it is on the disk.
    pub async fn take(self: &Arc<Self>, message: Message, receipt: Receipt) {
        match self.topics.purpose(&message.topic) {
            Some(Purpose::Ask(Place::Own)) if self.is_own_clear(&message) => receipt.give(),
            Some(Purpose::Ask(place)) if !message.payload.is_empty() || !message.retained => {
                self.take_ask(place, message, receipt).await;
            }
            Some(Purpose::Cancel(place)) if !message.retained => {
                self.take_cancel(place, &message.payload, receipt).await;
            }
            Some(Purpose::Stop) if !message.retained => self.take_stop(receipt).await,
            Some(Purpose::Set(setting)) if !message.retained => {
                self.set(setting, &message.payload, receipt).await;
            }
            Some(Purpose::WarmUp) if !message.retained => {
                self.warm_up();
                receipt.give();
            }
            Some(Purpose::HomeAssistant) => {
                if message.payload == "online" {
                    self.choices.renew.notify_one();
                }
                receipt.give();
            }
            None if self.recipes.on(&message.topic).next().is_some() => {
                self.take_for_recipes(message, receipt).await;
            }
            _ => {
                // Neither its topic nor what it says: a log is no place for the words of others.
                warn!("a message is ignored: it says nothing that can be done, or is old news");
                count(&self.counters.ignored);
                receipt.give();
            }
        }
    }

    /// Whether this is what we cleared a retained ask with: a broker sends it to us like any other message.
    fn is_own_clear(&self, message: &Message) -> bool {
        let one_less = |clears: u64| clears.checked_sub(1);
        message.payload.is_empty()
            && message.response_topic.is_none()
            && self
                .clears
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
    }

    async fn take_cancel(self: &Arc<Self>, place: Place, payload: &[u8], receipt: Receipt) {
        let id = std::str::from_utf8(payload).ok();
        let Some(id) = id.and_then(|id| AskId::parse(id.trim()).ok()) else {
            warn!("a cancel is ignored: it is no id");
            count(&self.counters.ignored);
            return receipt.give();
        };
        let cancelled = cancelled(&id);
        let due = Arc::clone(&self.journal.due);
        let bridge = Arc::clone(self);
        self.journal
            .hand_in(
                move |answers| answers.cancel(&place, &id, &cancelled, now()),
                move |outcome| match outcome {
                    Ok(true) => {
                        info!("an ask is cancelled");
                        due.notify_one();
                        receipt.give();
                    }
                    Ok(false) => {
                        debug!("a cancel names no unanswered ask");
                        count(&bridge.counters.ignored);
                        receipt.give();
                    }
                    Err(failure) => lost(&failure, receipt),
                },
            )
            .await;
    }

    async fn take_stop(&self, receipt: Receipt) {
        let due = Arc::clone(&self.journal.due);
        self.journal
            .hand_in(
                |answers| answers.cancel_all(cancelled, now()),
                move |outcome| match outcome {
                    Ok(ended) => {
                        info!(ended, "all asks are cancelled");
                        due.notify_one();
                        receipt.give();
                    }
                    Err(failure) => lost(&failure, receipt),
                },
            )
            .await;
    }

    async fn set(&self, setting: Setting, payload: &[u8], receipt: Receipt) {
        let value = String::from_utf8_lossy(payload);
        let defaults = match self.choices.set(setting, value.trim()) {
            Ok(defaults) => defaults,
            Err(why) => {
                warn!("a setting is ignored: {why}");
                count(&self.counters.ignored);
                return receipt.give();
            }
        };
        self.journal
            .hand_in(
                move |answers| choices::keep(answers.database(), &defaults),
                move |outcome| match outcome {
                    Ok(()) => receipt.give(),
                    Err(failure) => lost(&failure, receipt),
                },
            )
            .await;
    }

    /// Has the model loaded that will be asked for, so that the next answer comes at once.
    fn warm_up(&self) {
        if self.warms_up.swap(true, Ordering::Relaxed) {
            return;
        }
        let model = self
            .choices
            .defaults()
            .borrow()
            .value(Setting::Model)
            .to_owned();
        let (engine, done) = (Arc::clone(&self.engine), Arc::clone(&self.warms_up));
        tokio::spawn(async move {
            match engine.load(&model).await {
                Ok(()) => info!("the model is loaded"),
                Err(error) => warn!("the model cannot be loaded: {}", error.message),
            }
            done.store(false, Ordering::Relaxed);
        });
    }

    /// Does as the privacy switch of the box says. Turned on, whatever waits is told so, and whatever comes; what runs is
    /// told by the engine.
    pub async fn heed(&self, private: bool) {
        if self.private.swap(private, Ordering::Relaxed) == private || !private {
            return;
        }
        let ended = self
            .journal
            .with(|answers| answers.end_waiting(|id| private_error().payload(Some(id)), now()));
        match ended.await {
            Ok(ended) => info!(ended, "the privacy switch is on: no asks are taken"),
            Err(failure) => warn!("{failure}"),
        }
        self.journal.due.notify_one();
    }

    /// Whether the privacy switch of the box is on.
    pub fn is_private(&self) -> bool {
        self.private.load(Ordering::Relaxed)
    }

    /// Waits until everybody has been told what became of their ask, or `most` has passed.
    pub async fn told_everybody(&self, most: Duration) {
        let told = async {
            // A journal that cannot be read owes nothing that could be waited for.
            while self
                .journal
                .with(|answers| answers.owes_anything())
                .await
                .unwrap_or(false)
            {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = timeout(most, told).await;
    }

    /// Ends the work on every ask, for a clean end of the bridge. They stay in the journal.
    pub async fn stop(&self) {
        let stopped = self.journal.with(|answers| {
            answers.stop();
            Ok(())
        });
        if let Err(failure) = stopped.await {
            debug!("{failure}");
        }
    }
}

/// Why an ask is not taken while the privacy switch is on.
fn private_error() -> AskError {
    AskError::new(
        ErrorCode::Privacy,
        "the privacy switch of this box is on: it takes no prompts and forgets those that waited",
    )
}

/// The answer to an ask that was cancelled before the engine began with it.
fn cancelled(id: &AskId) -> Bytes {
    let reply = Reply {
        finish_reason: Some("cancelled".into()),
        ..Reply::default()
    };
    reply.payload(id)
}

/// Gives up what could not be written down, and has nobody to tell. The journal's thread has told the log. Not
/// acknowledged it would take one of the places of what the broker sends at once, and in the end all of them.
fn lost(failure: &Failure, receipt: Receipt) {
    debug!("{failure}");
    receipt.give();
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
