//! Writes asks down: those that come as messages, and those that recipes make of messages.
//!
//! In: messages. Out: asks in the journal, and errors for those that cannot be had. Must never acknowledge
//! what is not on the disk.

use std::sync::Arc;

use bytes::Bytes;
use tracing::{debug, warn};

use super::{Bridge, Options, count, lost, private_error};
use crate::answer::{AskError, ErrorCode};
use crate::answers::{Intake, Moment, Taken, Target};
use crate::ask::{self, Ask, Form};
use crate::broker::{Message, Receipt};
use crate::journal::{Failure, now};
use crate::topics::{AskId, Place};

/// The most bytes of MQTT 5 User Properties that go along with an ask.
const MAX_PROPERTIES_BYTES: usize = 16 * 1024;

impl Bridge {
    pub(super) async fn take_ask(
        self: &Arc<Self>,
        place: Place,
        message: Message,
        receipt: Receipt,
    ) {
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
            (Ok(_), None) if self.is_private() => Err(private_error()),
            (Ok(ask), None) => Ok(ask),
        };
        match checked {
            Ok(ask) => {
                let intake = self.intake(place, ask, target, &message, None);
                self.admit(intake, None, receipt).await;
            }
            Err(error) => {
                let usual = self.usual_topic(&place, id.as_ref());
                let targets = self.with_last(&place, target, &usual);
                self.refuse(id, targets, error, receipt).await;
            }
        }
        if let Some(topic) = clear {
            warn!(
                "an ask was published with retain; it is cleared on the broker, so that it is not asked again at every start"
            );
            if topic == self.topics.ask() {
                count(&self.clears);
            }
            let publisher = self.publisher.clone();
            tokio::spawn(async move { publisher.clear(topic).await });
        }
    }

    /// Asks what the recipes of this topic ask. What cannot be asked is told in the log and counted:
    /// there is nobody to answer.
    pub(super) async fn take_for_recipes(self: &Arc<Self>, message: Message, receipt: Receipt) {
        let mut asked = Vec::new();
        if self.is_private() {
            debug!("recipes rest: the privacy switch is on");
            return receipt.give();
        }
        for recipe in self.recipes.on(&message.topic) {
            match self.recipes.ask(recipe, &message, &self.topics) {
                Ok(Some((ask, topic))) => {
                    let result = Target {
                        topic,
                        bare: true,
                        ..Target::default()
                    };
                    let name = Some(recipe.name.clone());
                    let intake = self.intake(Place::Own, ask, result, &message, name.clone());
                    asked.push((intake, name));
                }
                Ok(None) => debug!(recipe = recipe.name, "a recipe asks nothing"),
                Err(why) => warn!(recipe = recipe.name, "a recipe cannot ask: {why}"),
            }
        }
        // They are written down in order: with the last, all are.
        let Some((last, its_name)) = asked.pop() else {
            return receipt.give();
        };
        for (intake, name) in asked {
            self.admit(intake, name, receipt.of_another()).await;
        }
        self.admit(last, its_name, receipt).await;
    }

    fn intake(
        &self,
        place: Place,
        ask: Ask,
        target: Target,
        message: &Message,
        recipe: Option<String>,
    ) -> Intake {
        // A subscriber is not told who published. The topic that somebody wants answers on is the only
        // thing that tells askers apart; those who name none are one.
        let usual = self.topics.answer(&place, &ask.id);
        let own_topic = target.topic != usual;
        let options = Options {
            stream: ask.stream,
            asker: own_topic.then(|| target.topic.clone()),
            ignored: ask.ignored,
            answer_by: ask.deadline,
            recipe,
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
        debug!(code = ?error.code, "an ask is refused");
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

    async fn admit(self: &Arc<Self>, intake: Intake, recipe: Option<String>, receipt: Receipt) {
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
                                bridge.tell_error("an ask is refused", code, recipe.as_deref());
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
        self: &Arc<Self>,
        failure: &Failure,
        (target, payload): (Target, Bytes),
        receipt: Receipt,
    ) {
        count(&self.counters.refused);
        if !target.bare {
            self.publisher.offer(target.topic, payload, false);
        }
        lost(failure, receipt);
    }

    /// Tells the log of an ask that has an error in place of an answer; of a recipe's, nobody else hears.
    pub(super) fn tell_error(&self, what: &str, code: ErrorCode, recipe: Option<&str>) {
        match recipe {
            Some(recipe) => {
                warn!(recipe, ?code, "{what}");
                self.recipes.failed(recipe);
            }
            // The asker is told. A flood of bad asks must not become one of lines in the log.
            None => debug!(?code, "{what}"),
        }
    }
}
