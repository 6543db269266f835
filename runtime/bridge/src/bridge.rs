//! From a message to its answer: the way of one ask through the bridge.
//!
//! In: messages on `ask` and `cancel`. Out: one answer for each ask, and the pieces of those that
//! want them.
//! Must never leave an ask without its answer, run one twice, or log what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::answer::{AskError, ErrorCode, Reply};
use crate::answers::{Admission, Answers, Interrupt, Target};
use crate::ask::{self, Ask};
use crate::broker::{Message, Publisher};
use crate::client::{Engine, Heard};
use crate::topics::{AskId, Topics};

/// How many asks are put to the engine at once; the others wait here, in order.
const AT_ONCE: usize = 8;

/// Everything an ask meets on its way. Cheap to share.
pub struct Bridge {
    topics: Topics,
    engine: Arc<Engine>,
    publisher: Publisher,
    answers: Answers,
    places: Semaphore,
}

impl Bridge {
    /// A bridge between these two.
    pub fn between(topics: Topics, engine: Arc<Engine>, publisher: Publisher) -> Arc<Self> {
        Arc::new(Self {
            topics,
            engine,
            publisher,
            answers: Answers::default(),
            places: Semaphore::new(AT_ONCE),
        })
    }

    /// Takes a message: enters an ask into the books and lets it run, or cancels one. Returns at
    /// once.
    pub fn take(self: &Arc<Self>, message: Message) {
        if message.retained {
            // It would run again at every start.
            warn!(
                topic = message.topic,
                "a retained message is ignored; publish without retain, and clear it with an empty retained message"
            );
        } else if message.topic == self.topics.cancel() {
            self.take_cancel(&message.payload);
        } else {
            self.take_ask(message);
        }
    }

    fn take_cancel(&self, payload: &[u8]) {
        let id = std::str::from_utf8(payload)
            .map_err(|error| error.to_string())
            .and_then(|id| AskId::parse(id.trim()));
        match id {
            Ok(id) if self.answers.cancel(&id) => info!("an ask is cancelled"),
            Ok(_) => debug!("a cancel names no running ask"),
            Err(why) => warn!("a cancel cannot be read: {why}"),
        }
    }

    fn take_ask(self: &Arc<Self>, message: Message) {
        let deadline = message
            .expiry_seconds
            .map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        let ask = ask::parse(&message.payload, &self.topics);
        let (id, reply_to) = match &ask {
            Ok(ask) => (Some(&ask.id), &ask.reply_to),
            Err(refused) => (refused.id.as_ref(), &refused.reply_to),
        };
        let id = id.cloned();
        let (target, misdirected) = self.target(id.as_ref(), reply_to.as_deref(), &message);
        match (ask, misdirected) {
            (Err(refused), _) => self.refuse(id.as_ref(), target, &refused.error),
            (Ok(_), Some(why)) => {
                let error = AskError::new(ErrorCode::BadRequest, why);
                self.refuse(id.as_ref(), target, &error);
            }
            (Ok(ask), None) => self.admit(ask, target, deadline),
        }
    }

    /// Where the answer goes; with why, if that is not where it was wanted.
    fn target(
        &self,
        id: Option<&AskId>,
        reply_to: Option<&str>,
        message: &Message,
    ) -> (Target, Option<String>) {
        let own = id.map_or_else(|| self.topics.answer_invalid(), |id| self.topics.answer(id));
        let (topic, why) = match (reply_to, message.response_topic.as_deref()) {
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
        let target = Target {
            topic,
            correlation: message.correlation.clone(),
        };
        (target, why)
    }

    fn refuse(&self, id: Option<&AskId>, target: Target, error: &AskError) {
        info!(code = ?error.code, "an ask is refused");
        self.publisher.deliver(target, error.payload(id));
    }

    fn admit(self: &Arc<Self>, ask: Ask, target: Target, deadline: Option<Instant>) {
        // A subscriber is not told who published. The topic that somebody wants answers on is the only
        // thing that tells askers apart; those who name none are one.
        let asker = (target.topic != self.topics.answer(&ask.id)).then(|| target.topic.clone());
        match self.answers.admit(&ask.id, &ask.request, target.clone()) {
            Admission::Run(interrupted) => {
                let bridge = Arc::clone(self);
                tokio::spawn(async move { bridge.run(ask, asker, deadline, interrupted).await });
            }
            Admission::AlreadyRunning => debug!("a repeated ask joins the one that is running"),
            Admission::AlreadyAnswered(answer) => self.deliver(&ask.id, target, answer),
            Admission::AnotherRequest => {
                let error = AskError::new(
                    ErrorCode::BadRequest,
                    "\"id\" names an earlier ask that asked for something else; take a new one",
                );
                self.refuse(Some(&ask.id), target, &error);
            }
            Admission::Full => {
                let error = AskError::new(
                    ErrorCode::Busy,
                    "too many asks are waiting here already; ask again later",
                );
                self.refuse(Some(&ask.id), target, &error);
            }
        }
    }

    async fn run(
        &self,
        ask: Ask,
        asker: Option<String>,
        deadline: Option<Instant>,
        interrupted: oneshot::Receiver<Interrupt>,
    ) {
        let mut reply = Reply::default();
        let interrupt = async {
            // The sender is dropped without a word only after the ask has ended.
            interrupted.await.unwrap_or(Interrupt::Cancelled)
        };
        let outcome = tokio::select! {
            biased;
            interrupt = interrupt => match interrupt {
                Interrupt::Cancelled => {
                    reply.finish_reason = Some("cancelled".into());
                    Ok(())
                }
                Interrupt::Stopping => Err(AskError::new(
                    ErrorCode::Unavailable,
                    "the bridge is stopping; ask again when it is back",
                )),
            },
            outcome = self.put(&ask, asker.as_deref(), deadline, &mut reply) => outcome,
        };
        let (answer, keep) = match &outcome {
            Ok(()) => (reply.payload(&ask.id), true),
            Err(error) => {
                info!(code = ?error.code, "an ask ends in an error");
                (error.payload(Some(&ask.id)), false)
            }
        };
        self.publish(&ask.id, &answer, keep);
    }

    fn publish(&self, id: &AskId, answer: &Bytes, keep: bool) {
        for target in self.answers.finish(id, answer, keep) {
            self.deliver(id, target, answer.clone());
        }
    }

    fn deliver(&self, id: &AskId, target: Target, answer: Bytes) {
        let answer = if self.publisher.fits(&target, &answer) {
            answer
        } else {
            let error = AskError::new(
                ErrorCode::Internal,
                format!(
                    "the answer has {} bytes, more than the broker takes; ask for fewer tokens or raise the broker's max_packet_size",
                    answer.len()
                ),
            );
            error.payload(Some(id))
        };
        self.publisher.deliver(target, answer);
    }

    /// Waits for a place, then puts the ask to the engine; not if its deadline passes before the engine
    /// has begun with it.
    async fn put(
        &self,
        ask: &Ask,
        asker: Option<&str>,
        deadline: Option<Instant>,
        reply: &mut Reply,
    ) -> Result<(), AskError> {
        let begun = AtomicBool::new(false);
        let expired = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let answered = async {
            let _place = self.places.acquire().await;
            let mut seq = 0;
            self.engine
                .chat(&ask.request, asker, reply, |heard| {
                    begun.store(true, Ordering::Relaxed);
                    let Heard::Delta(delta) = heard else { return };
                    if ask.stream {
                        let topic = self.topics.stream(&ask.id);
                        self.publisher
                            .offer(topic, delta.payload(&ask.id, seq), false);
                    }
                    seq += 1;
                })
                .await
        };
        tokio::pin!(answered);
        tokio::select! {
            biased;
            outcome = &mut answered => return outcome,
            () = expired => {}
        }
        if begun.load(Ordering::Relaxed) {
            return answered.await;
        }
        // Leaving drops the request, which takes it out of the engine's queue.
        Err(AskError::new(
            ErrorCode::Expired,
            "the ask's Message Expiry passed before its turn came",
        ))
    }

    /// Ends every running ask with an error answer, for a clean end of the bridge.
    pub async fn stop(&self) {
        self.answers.stop_all();
        while self.answers.unanswered() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
