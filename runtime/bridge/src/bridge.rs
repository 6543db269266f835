//! From a message to its answer: the way of one ask through the bridge.
//!
//! In: messages of the topics that are listened to. Out: one answer for each ask, and the pieces of
//! those that want them.
//! Must never leave an ask without its answer, run one twice at a time, or log what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use crate::answer::{self, AskError, ErrorCode, Reply};
use crate::answers::{Answers, Delivery, Intake, Interrupt, Moment, Taken, Target, Turn};
use crate::ask::{self, Ask, Form};
use crate::broker::{Message, Publisher, Receipt};
use crate::choices::{self, Choices, Defaults, Setting};
use crate::client::{Engine, Heard};
use crate::journal::{Journal, now};
use crate::recipes::Recipes;
use crate::topics::{AskId, Place, Purpose, Topics};

/// How many asks are put to the engine at once; the others wait in the journal, in order.
const AT_ONCE: usize = 8;

/// How many answers are on their way to the broker at once.
const DELIVERIES_AT_ONCE: usize = 32;

/// How often the journal is looked through for what has expired or is to be erased.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// The pause before an ask is put again to an engine that was not there, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often the engine may go away in the middle of the same ask. It may be the ask that ends it.
const MAX_BROKEN_OFF: u32 = 5;

/// A day, in milliseconds.
const A_DAY_MS: Moment = 24 * 60 * 60 * 1000;

/// The most bytes of MQTT 5 User Properties that go along with an ask.
const MAX_PROPERTIES_BYTES: usize = 16 * 1024;

/// Everything an ask meets on its way. Cheap to share.
pub struct Bridge {
    topics: Topics,
    engine: Arc<Engine>,
    publisher: Publisher,
    journal: Journal,
    choices: Arc<Choices>,
    /// Whether a model is being loaded because somebody wished so.
    warms_up: Arc<AtomicBool>,
    /// What is asked by itself.
    pub recipes: Recipes,
    places: Arc<Semaphore>,
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
    /// What it asks for where it does not say.
    #[serde(default, skip_serializing_if = "Defaults::are_unset")]
    defaults: Defaults,
}

/// An ask whose turn has come, as it is put to the engine.
struct Task {
    place: Place,
    id: AskId,
    request: String,
    deadline: Option<Moment>,
    options: Options,
}

impl Task {
    /// The body for the engine, as of now.
    fn body(&self) -> String {
        // The engine takes no time that is further away than a day; its answer is there long before.
        let left = self.options.answer_by.map(|by| by.saturating_sub(now()));
        let left = left.filter(|left| *left <= A_DAY_MS);
        let defaults = &self.options.defaults;
        if left.is_none() && defaults.are_unset() {
            return self.request.clone();
        }
        let mut fields: Map<String, Value> =
            serde_json::from_str(&self.request).expect("a request in the journal is an object");
        defaults.add_to(&mut fields);
        if let Some(left) = left {
            fields.insert("deadline_ms".into(), left.max(1).into());
        }
        Value::Object(fields).to_string()
    }
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
            recipes,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            deliveries: Arc::new(Semaphore::new(DELIVERIES_AT_ONCE)),
            counters: Counters::default(),
        })
    }

    /// Takes a message: enters an ask into the journal, or cancels one. Returns once the journal has a
    /// place for it; `receipt` is given when it is on the disk.
    pub async fn take(self: &Arc<Self>, message: Message, receipt: Receipt) {
        match self.topics.purpose(&message.topic) {
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
                warn!(topic = message.topic, "a message is ignored");
                count(&self.counters.ignored);
                receipt.give();
            }
        }
    }

    async fn take_cancel(self: &Arc<Self>, place: Place, payload: &[u8], receipt: Receipt) {
        let id = std::str::from_utf8(payload)
            .map_err(|error| error.to_string())
            .and_then(|id| AskId::parse(id.trim()));
        let id = match id {
            Ok(id) => id,
            Err(why) => {
                warn!("a cancel cannot be read: {why}");
                count(&self.counters.ignored);
                return receipt.give();
            }
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
                    // The broker sends it again.
                    Err(failure) => error!("{failure}"),
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
                    Err(failure) => error!("{failure}"),
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
                    // The broker sends it again.
                    Err(failure) => error!("{failure}"),
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

    async fn take_ask(self: &Arc<Self>, place: Place, message: Message, receipt: Receipt) {
        let clear = message.retained.then(|| message.topic.clone());
        let form = Form::of(message.content_type.as_deref());
        let ask = ask::parse(&message.payload, form, &self.topics);
        let (id, reply_to) = match &ask {
            Ok(ask) => (Some(&ask.id), &ask.reply_to),
            Err(refused) => (refused.id.as_ref(), &refused.reply_to),
        };
        let id = id.cloned();
        let (target, misdirected) = self.target(&place, id.as_ref(), reply_to.as_deref(), &message);
        let checked = match (ask, misdirected) {
            (Err(refused), _) => Err(refused.error),
            (Ok(_), Some(why)) => Err(AskError::new(ErrorCode::BadRequest, why)),
            (Ok(ask), None) => Ok(ask),
        };
        match checked {
            Ok(ask) => {
                let intake = self.intake(place, ask, target, &message);
                self.admit(intake, receipt).await;
            }
            Err(error) => {
                let usual = self.usual_topic(&place, id.as_ref());
                let targets = self.with_last(&place, target, &usual);
                self.refuse(id, targets, error, receipt).await;
            }
        }
        if let Some(topic) = clear {
            warn!(
                topic,
                "an ask was published with retain; it is cleared on the broker, so that it is not asked again at every start"
            );
            let publisher = self.publisher.clone();
            tokio::spawn(async move { publisher.clear(topic).await });
        }
    }

    /// Asks what the recipes of this topic ask. What cannot be asked is told in the log and counted:
    /// there is nobody to answer.
    async fn take_for_recipes(self: &Arc<Self>, message: Message, receipt: Receipt) {
        let mut asked = Vec::new();
        for recipe in self.recipes.on(&message.topic) {
            match self.recipes.ask(recipe, &message, &self.topics) {
                Ok(Some((ask, topic))) => {
                    let result = Target {
                        topic,
                        bare: true,
                        ..Target::default()
                    };
                    asked.push(self.intake(Place::Own, ask, result, &message));
                }
                Ok(None) => debug!(recipe = recipe.name, "a recipe asks nothing"),
                Err(why) => warn!(recipe = recipe.name, "a recipe cannot ask: {why}"),
            }
        }
        // They are written down in order: with the last, all are.
        let Some(last) = asked.pop() else {
            return receipt.give();
        };
        for intake in asked {
            self.admit(intake, receipt.of_another()).await;
        }
        self.admit(last, receipt).await;
    }

    fn intake(&self, place: Place, ask: Ask, target: Target, message: &Message) -> Intake {
        // A subscriber is not told who published. The topic that somebody wants answers on is the only
        // thing that tells askers apart; those who name none are one.
        let usual = self.topics.answer(&place, &ask.id);
        let own_topic = target.topic != usual;
        let options = Options {
            stream: ask.stream,
            asker: own_topic.then(|| target.topic.clone()),
            ignored: ask.ignored,
            answer_by: ask.deadline,
            // Those of now: what is set later is for later asks, and the same ask stays the same.
            defaults: self.choices.defaults().borrow().clone(),
        };
        let expiry = message
            .expiry_seconds
            .map(|seconds| now().saturating_add(Moment::from(seconds) * 1000));
        let mut targets = self.with_last(&place, target, &usual);
        if !own_topic && ask.bare {
            targets.push(Target {
                topic: self.topics.answer_text(&place),
                bare: true,
                ..targets[0].clone()
            });
        }
        Intake {
            place,
            id: ask.id,
            own_id: ask.own_id,
            packet: message.packet,
            retained: message.retained,
            request: ask.request,
            options: serde_json::to_string(&options).expect("options always serialize"),
            deadline: match (ask.deadline, expiry) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            targets,
        }
    }

    /// Where the answer goes; with why, if that is not where it was wanted.
    fn target(
        &self,
        place: &Place,
        id: Option<&AskId>,
        reply_to: Option<&str>,
        message: &Message,
    ) -> (Target, Option<String>) {
        let own = self.usual_topic(place, id);
        let (topic, mut why) = match (reply_to, message.response_topic.as_deref()) {
            (Some(json), Some(property)) if json != property => (
                own,
                Some("\"reply_to\" and the Response Topic differ; give one".to_string()),
            ),
            (Some(wanted), _) => (wanted.to_string(), None),
            (None, Some(wanted)) => match self.topics.check_reply_to(wanted) {
                Ok(()) => (wanted.to_string(), None),
                Err(why) => (own, Some(why)),
            },
            (None, None) => (own, None),
        };
        let mut user_properties = message.user_properties.clone();
        let bytes: usize = user_properties
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > MAX_PROPERTIES_BYTES {
            user_properties.clear();
            why = Some(format!(
                "the User Properties have {bytes} bytes; at most {MAX_PROPERTIES_BYTES} are carried"
            ));
        }
        let target = Target {
            topic,
            correlation: message.correlation.clone(),
            user_properties,
            bare: false,
        };
        (target, why)
    }

    /// Where answers go that are wanted nowhere else.
    fn usual_topic(&self, place: &Place, id: Option<&AskId>) -> String {
        id.map_or_else(
            || self.topics.answer_invalid(place),
            |id| self.topics.answer(place, id),
        )
    }

    /// The target, and where `usual` is its topic, `answer/last` for a copy.
    fn with_last(&self, place: &Place, target: Target, usual: &str) -> Vec<Target> {
        let last = (*place == Place::Own && target.topic == usual).then(|| Target {
            topic: self.topics.answer_last(),
            ..Target::default()
        });
        [target].into_iter().chain(last).collect()
    }

    async fn refuse(
        self: &Arc<Self>,
        id: Option<AskId>,
        targets: Vec<Target>,
        error: AskError,
        receipt: Receipt,
    ) {
        info!(code = ?error.code, "an ask is refused");
        count(&self.counters.refused);
        let bridge = Arc::clone(self);
        let unwritten = (targets[0].clone(), error.payload(id.as_ref()));
        self.journal
            .hand_in(
                move |answers| answers.refuse(id.as_ref(), &targets, &error),
                move |outcome| match outcome {
                    Ok(_) => {
                        bridge.journal.due.notify_one();
                        receipt.give();
                    }
                    Err(failure) => bridge.tell_unwritten(&failure, unwritten, receipt),
                },
            )
            .await;
    }

    async fn admit(self: &Arc<Self>, intake: Intake, receipt: Receipt) {
        let bridge = Arc::clone(self);
        let error = AskError::new(
            ErrorCode::Internal,
            "the box cannot write it down: its disk is full or damaged; see the bridge's log",
        );
        let unwritten = (intake.targets[0].clone(), error.payload(Some(&intake.id)));
        self.journal
            .hand_in(
                move |answers| answers.take(&intake, now()),
                move |outcome| match outcome {
                    Ok(taken) => {
                        match taken {
                            Taken::Waits => bridge.journal.waiting.notify_one(),
                            Taken::Joined => debug!("a repeated ask joins its first"),
                            Taken::KnownAlready => {
                                debug!("an ask came that is known already");
                                count(&bridge.counters.ignored);
                            }
                            Taken::AnsweredAlready => bridge.journal.due.notify_one(),
                            Taken::Refused(code) => {
                                info!(?code, "an ask is refused");
                                count(&bridge.counters.refused);
                                bridge.journal.due.notify_one();
                            }
                        }
                        receipt.give();
                    }
                    Err(failure) => bridge.tell_unwritten(&failure, unwritten, receipt),
                },
            )
            .await;
    }

    /// Without a journal the asker is told once, for as long as the broker is there.
    fn tell_unwritten(
        &self,
        failure: &crate::journal::Failure,
        (target, payload): (Target, Bytes),
        receipt: Receipt,
    ) {
        error!("{failure}");
        self.publisher.offer(target.topic, payload, false);
        receipt.give();
    }

    /// Does the work that stands in the journal: computes, publishes, erases. Never ends.
    pub async fn work(self: Arc<Self>) {
        tokio::join!(
            Arc::clone(&self).compute(),
            Arc::clone(&self).publish(),
            self.tidy()
        );
    }

    async fn compute(self: Arc<Self>) {
        loop {
            let place = Arc::clone(&self.places)
                .acquire_owned()
                .await
                .expect("the places are never closed");
            let turn = loop {
                match self.journal.with(Answers::next).await {
                    Ok(Some(turn)) => break turn,
                    Ok(None) => self.journal.waiting.notified().await,
                    Err(failure) => self.wait_after(&failure).await,
                }
            };
            let bridge = Arc::clone(&self);
            tokio::spawn(async move { bridge.run(turn, place).await });
        }
    }

    async fn wait_after(&self, failure: &crate::journal::Failure) {
        error!("{failure}");
        sleep(TIDY_EVERY).await;
    }

    async fn run(&self, turn: Turn, place: OwnedSemaphorePermit) {
        let Turn {
            seq,
            place: asked,
            id,
            request,
            options,
            deadline,
            mut interrupted,
        } = turn;
        let task = Task {
            place: asked,
            id,
            request,
            deadline,
            options: serde_json::from_str(&options).unwrap_or_default(),
        };
        let mut reply = Reply::default();
        let mut broken_off = 0;
        let mut pause = FIRST_PAUSE;
        let outcome = loop {
            let attempt = async {
                let outcome = self.put(&task, &mut reply).await;
                if matches!(&outcome, Err(error) if is_passing(error)) {
                    sleep(pause).await;
                }
                outcome
            };
            let outcome = tokio::select! {
                biased;
                // The sender is dropped without a word only after the ask has ended.
                interrupt = &mut interrupted => match interrupt.unwrap_or(Interrupt::Stopping) {
                    Interrupt::Cancelled => {
                        reply.finish_reason = Some("cancelled".into());
                        Ok(())
                    }
                    Interrupt::Stopping => return,
                },
                outcome = attempt => outcome,
            };
            match outcome {
                Err(error) if is_passing(&error) && broken_off < MAX_BROKEN_OFF => {
                    debug!("an ask is put to the engine again: {}", error.message);
                    broken_off += u32::from(reply != Reply::default());
                    reply = Reply::default();
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if is_passing(&error) => {
                    break Err(AskError::new(
                        ErrorCode::Internal,
                        format!(
                            "the engine went away {broken_off} times in the middle of the answer"
                        ),
                    ));
                }
                outcome => break outcome,
            }
        };
        let answer = match &outcome {
            Ok(()) => {
                reply.ignored.clone_from(&task.options.ignored);
                reply.payload(&task.id)
            }
            Err(error) => {
                info!(code = ?error.code, "an ask ends in an error");
                error.payload(Some(&task.id))
            }
        };
        drop(reply);
        count(&self.counters.answered);
        loop {
            let answer = answer.clone();
            let written = self
                .journal
                .with(move |answers| answers.finish(seq, &answer, now()))
                .await;
            match written {
                Ok(()) => break,
                Err(failure) => self.wait_after(&failure).await,
            }
        }
        self.journal.due.notify_one();
        drop(place);
    }

    /// Puts the ask to the engine; not if its deadline passes before the engine has begun with it.
    async fn put(&self, task: &Task, reply: &mut Reply) -> Result<(), AskError> {
        let begun = AtomicBool::new(false);
        let expired = async {
            match task.deadline {
                Some(deadline) => {
                    // Not by sleeping for no time, which may lose to an engine that is not there.
                    while let Ok(left @ 1..) = u64::try_from(deadline.saturating_sub(now())) {
                        sleep(Duration::from_millis(left)).await;
                    }
                }
                None => std::future::pending().await,
            }
        };
        let answered = async {
            let mut seq = 0;
            self.engine
                .chat(
                    &task.body(),
                    task.options.asker.as_deref(),
                    reply,
                    |heard| {
                        begun.store(true, Ordering::Relaxed);
                        let Heard::Delta(delta) = heard else { return };
                        if task.options.stream {
                            let topic = self.topics.stream(&task.place, &task.id);
                            self.publisher
                                .offer(topic, delta.payload(&task.id, seq), false);
                        }
                        seq += 1;
                    },
                )
                .await
        };
        tokio::pin!(answered);
        tokio::select! {
            biased;
            () = expired => {}
            outcome = &mut answered => return outcome,
        }
        if begun.load(Ordering::Relaxed) {
            return answered.await;
        }
        // Leaving drops the request, which takes it out of the engine's queue.
        Err(expired_error())
    }

    async fn publish(self: Arc<Self>) {
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

    async fn tidy(&self) {
        loop {
            let erased = self
                .journal
                .with(|answers| answers.tidy(|id| expired_error().payload(Some(id)), now()))
                .await;
            match erased {
                Ok(true) => self.journal.erase().await,
                Ok(false) => {}
                Err(failure) => self.wait_after(&failure).await,
            }
            // What has expired is to be published.
            self.journal.due.notify_one();
            sleep(TIDY_EVERY).await;
        }
    }

    /// Ends the work on every ask, for a clean end of the bridge. They stay in the journal.
    pub async fn stop(&self) {
        let stopped = self.journal.with(|answers| {
            answers.stop();
            Ok(())
        });
        if let Err(failure) = stopped.await {
            error!("{failure}");
        }
    }
}

/// Whether it is the engine's condition, not the ask: then it is put again.
fn is_passing(error: &AskError) -> bool {
    matches!(error.code, ErrorCode::Unavailable | ErrorCode::Busy)
}

fn expired_error() -> AskError {
    AskError::new(
        ErrorCode::Expired,
        "the ask's Message Expiry or deadline passed before its turn came",
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

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
