//! Which asks are running and which were answered lately: an ask is never run twice.
//!
//! In: ids and requests as they are asked, cancelled and answered. Out: what to do with a new ask,
//! whom to tell when it is answered. Knows neither MQTT nor HTTP.
//! Must never forget a running ask, must never give one request the answer of another, and must never
//! write anything down: it is all in memory.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::topics::AskId;

/// How many asks may run or wait at once.
pub const MAX_UNANSWERED: usize = 8 + 256;

/// How many answers are kept for repeated asks, and how many bytes of them.
const MAX_KEPT: usize = 256;
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;

/// Where one answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The topic.
    pub topic: String,
    /// MQTT 5 Correlation Data, given back as it came.
    pub correlation: Option<Bytes>,
}

/// Why a running ask is to end before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Its asker cancelled it.
    Cancelled,
    /// The bridge is stopping.
    Stopping,
}

/// What to do with an ask.
#[derive(Debug)]
pub enum Admission {
    /// Run it, and end early when this fires.
    Run(oneshot::Receiver<Interrupt>),
    /// The same ask is running; its answer will go to this target too.
    AlreadyRunning,
    /// The same ask was answered; this is the answer.
    AlreadyAnswered(Bytes),
    /// An ask of this id that asks for something else is running or was answered.
    AnotherRequest,
    /// Too many are unanswered.
    Full,
}

/// The running and the lately answered asks.
#[derive(Default)]
pub struct Answers {
    books: Mutex<Books>,
    fingerprints: RandomState,
}

#[derive(Default)]
struct Books {
    running: HashMap<AskId, Running>,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
}

struct Kept {
    id: AskId,
    fingerprint: Fingerprint,
    answer: Bytes,
}

/// A keyed hash of a request, so that what was asked need not be kept to know it again.
type Fingerprint = u64;

struct Running {
    fingerprint: Fingerprint,
    targets: Vec<Target>,
    interrupt: Option<oneshot::Sender<Interrupt>>,
}

impl Answers {
    /// Enters an ask, whose answer is to go to `target`. Asks are the same when id and request are.
    pub fn admit(&self, id: &AskId, request: &impl Hash, target: Target) -> Admission {
        let fingerprint = self.fingerprints.hash_one(request);
        let mut books = self.books();
        if let Some(running) = books.running.get_mut(id) {
            if running.fingerprint != fingerprint {
                return Admission::AnotherRequest;
            }
            if !running.targets.contains(&target) {
                running.targets.push(target);
            }
            return Admission::AlreadyRunning;
        }
        if let Some(kept) = books.kept.iter().find(|kept| kept.id == *id) {
            return if kept.fingerprint == fingerprint {
                Admission::AlreadyAnswered(kept.answer.clone())
            } else {
                Admission::AnotherRequest
            };
        }
        if books.running.len() >= MAX_UNANSWERED {
            return Admission::Full;
        }
        let (interrupt, interrupted) = oneshot::channel();
        books.running.insert(
            id.clone(),
            Running {
                fingerprint,
                targets: vec![target],
                interrupt: Some(interrupt),
            },
        );
        Admission::Run(interrupted)
    }

    /// Interrupts one running ask; false if there is none of this id, or it is ending already.
    pub fn cancel(&self, id: &AskId) -> bool {
        let mut books = self.books();
        let interrupt = books
            .running
            .get_mut(id)
            .and_then(|running| running.interrupt.take());
        interrupt.is_some_and(|interrupt| interrupt.send(Interrupt::Cancelled).is_ok())
    }

    /// Interrupts every running ask, for a clean end of the bridge.
    pub fn stop_all(&self) {
        for running in self.books().running.values_mut() {
            if let Some(interrupt) = running.interrupt.take() {
                // Nobody listens any more when the ask has just ended by itself.
                let _ = interrupt.send(Interrupt::Stopping);
            }
        }
    }

    /// How many asks run or wait.
    pub fn unanswered(&self) -> usize {
        self.books().running.len()
    }

    /// Ends a running ask with its answer and returns where that goes. With `keep`, a repeat of the
    /// ask gets the same answer; an error is not kept, so that the ask may be tried again.
    pub fn finish(&self, id: &AskId, answer: &Bytes, keep: bool) -> Vec<Target> {
        let mut books = self.books();
        let Some(running) = books.running.remove(id) else {
            return Vec::new();
        };
        if keep {
            books.kept_bytes += answer.len();
            books.kept.push_back(Kept {
                id: id.clone(),
                fingerprint: running.fingerprint,
                answer: answer.clone(),
            });
            while books.kept.len() > MAX_KEPT || books.kept_bytes > MAX_KEPT_BYTES {
                let Some(oldest) = books.kept.pop_front() else {
                    break;
                };
                books.kept_bytes -= oldest.answer.len();
            }
        }
        running.targets
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books
            .lock()
            .expect("no code panics while it holds the books")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AskId {
        AskId::parse(name).unwrap()
    }

    fn to(topic: &str) -> Target {
        Target {
            topic: topic.into(),
            correlation: None,
        }
    }

    fn is_run(admission: &Admission) -> bool {
        matches!(admission, Admission::Run(_))
    }

    #[test]
    fn a_repeat_of_a_running_ask_joins_it_and_both_targets_get_the_one_answer() {
        let answers = Answers::default();
        assert!(is_run(&answers.admit(&id("a"), &"why", to("x"))));
        for target in ["y", "x"] {
            let again = answers.admit(&id("a"), &"why", to(target));
            assert!(matches!(again, Admission::AlreadyRunning));
        }
        let targets = answers.finish(&id("a"), &Bytes::from("42"), true);
        assert_eq!(targets, [to("x"), to("y")]);
    }

    #[test]
    fn a_repeat_of_an_answered_ask_gets_the_same_answer() {
        let answers = Answers::default();
        answers.admit(&id("a"), &"why", to("x"));
        answers.finish(&id("a"), &Bytes::from("42"), true);
        let Admission::AlreadyAnswered(answer) = answers.admit(&id("a"), &"why", to("x")) else {
            panic!("run again");
        };
        assert_eq!(answer, "42");
    }

    #[test]
    fn another_request_under_an_id_in_use_is_known_as_another() {
        let answers = Answers::default();
        answers.admit(&id("a"), &"why", to("x"));
        let while_it_runs = answers.admit(&id("a"), &"how", to("y"));
        assert!(matches!(while_it_runs, Admission::AnotherRequest));
        let targets = answers.finish(&id("a"), &Bytes::from("42"), true);
        assert_eq!(targets, [to("x")]);
        let after = answers.admit(&id("a"), &"how", to("y"));
        assert!(matches!(after, Admission::AnotherRequest));
    }

    #[test]
    fn an_ask_that_ended_in_an_error_may_be_tried_again() {
        let answers = Answers::default();
        answers.admit(&id("a"), &"why", to("x"));
        answers.finish(&id("a"), &Bytes::from("busy"), false);
        assert!(is_run(&answers.admit(&id("a"), &"why", to("x"))));
    }

    #[test]
    fn only_the_latest_answers_are_kept() {
        let answers = Answers::default();
        for n in 0..=MAX_KEPT {
            answers.admit(&id(&n.to_string()), &"why", to("x"));
            answers.finish(&id(&n.to_string()), &Bytes::from("a"), true);
        }
        assert!(is_run(&answers.admit(&id("0"), &"why", to("x"))));
        assert!(!is_run(&answers.admit(&id("1"), &"why", to("x"))));
    }

    #[test]
    fn kept_answers_are_bounded_in_bytes_too() {
        let answers = Answers::default();
        let half = Bytes::from(vec![b'x'; MAX_KEPT_BYTES / 2 + 1]);
        for name in ["a", "b"] {
            answers.admit(&id(name), &"why", to("x"));
            answers.finish(&id(name), &half, true);
        }
        assert!(is_run(&answers.admit(&id("a"), &"why", to("x"))));
        assert!(!is_run(&answers.admit(&id("b"), &"why", to("x"))));
    }

    #[test]
    fn one_ask_too_many_is_turned_away_until_another_ends() {
        let answers = Answers::default();
        let _running: Vec<_> = (0..MAX_UNANSWERED)
            .map(|n| answers.admit(&id(&n.to_string()), &"why", to("x")))
            .collect();
        assert!(matches!(
            answers.admit(&id("more"), &"why", to("x")),
            Admission::Full
        ));
        answers.finish(&id("0"), &Bytes::from("a"), true);
        assert!(is_run(&answers.admit(&id("more"), &"why", to("x"))));
    }

    #[test]
    fn a_cancel_reaches_its_ask_once() {
        let answers = Answers::default();
        let Admission::Run(mut interrupted) = answers.admit(&id("a"), &"why", to("x")) else {
            panic!("not run");
        };
        assert!(!answers.cancel(&id("b")));
        assert!(answers.cancel(&id("a")));
        assert_eq!(interrupted.try_recv(), Ok(Interrupt::Cancelled));
        assert!(!answers.cancel(&id("a")));
    }

    #[test]
    fn stopping_reaches_every_ask() {
        let answers = Answers::default();
        let mut waiting = Vec::new();
        for name in ["a", "b"] {
            if let Admission::Run(interrupted) = answers.admit(&id(name), &"why", to("x")) {
                waiting.push(interrupted);
            }
        }
        answers.stop_all();
        assert_eq!(waiting.len(), 2);
        for mut interrupted in waiting {
            assert_eq!(interrupted.try_recv(), Ok(Interrupt::Stopping));
        }
    }
}
