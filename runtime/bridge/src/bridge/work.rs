//! Does the work that stands in the journal: puts asks to the engine, erases what is done. [`super::deliver`]
//! publishes the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tracing::debug;

use super::{Bridge, Options, count};
use crate::answer::{AskError, ErrorCode, Reply};
use crate::answers::{Answers, Interrupt, Moment, Turn};
use crate::client::Heard;
use crate::journal::now;
use crate::topics::{AskId, Place};

/// How often the journal is looked through for what has expired or is to be erased.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// The pause before an ask is put again to an engine that was not there, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often the engine may go away while it has the same ask: it may be the ask that ends it. The last time the ask is put
/// alone, so that it is not blamed for what another one did.
const MAX_BROKEN_OFF: u32 = 5;

/// A day, in milliseconds.
const A_DAY_MS: Moment = 24 * 60 * 60 * 1000;

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

    pub(super) async fn wait_after(&self, failure: &crate::journal::Failure) {
        debug!("{failure}");
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
            mut broken_off,
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
        let mut pause = FIRST_PAUSE;
        let outcome = loop {
            let attempt = async {
                let outcome = if broken_off + 1 < MAX_BROKEN_OFF {
                    let _beside_others = self.attempts.read().await;
                    self.put(&task, &mut reply).await
                } else {
                    let _alone = self.attempts.write().await;
                    self.put(&task, &mut reply).await
                };
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
                Err(error) if is_passing(&error) => {
                    debug!("an ask is put to the engine again: {}", error.message);
                    if error.code == ErrorCode::BrokenOff {
                        broken_off = self.count_broken_off(seq).await;
                    }
                    if broken_off >= MAX_BROKEN_OFF {
                        break Err(AskError::new(
                            ErrorCode::Internal,
                            format!(
                                "the engine went away {broken_off} times while it had this ask, and is not asked again"
                            ),
                        ));
                    }
                    reply = Reply::default();
                    pause = (pause * 2).min(LONGEST_PAUSE);
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
                let recipe = task.options.recipe.as_deref();
                self.tell_error("an ask ends in an error", error.code, recipe);
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

    async fn count_broken_off(&self, seq: i64) -> u32 {
        loop {
            match self
                .journal
                .with(move |answers| answers.broken_off(seq))
                .await
            {
                Ok(times) => return times,
                Err(failure) => self.wait_after(&failure).await,
            }
        }
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
}

/// Whether it is the engine's condition, not the ask: then it is put again.
fn is_passing(error: &AskError) -> bool {
    matches!(
        error.code,
        ErrorCode::Unavailable | ErrorCode::BrokenOff | ErrorCode::Busy
    )
}

fn expired_error() -> AskError {
    AskError::new(
        ErrorCode::Expired,
        "the ask's Message Expiry or deadline passed before its turn came",
    )
}
