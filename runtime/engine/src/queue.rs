//! Who waits for a slot, and who is next: interactive requests before automations that have not waited long, then who
//! has least.
//!
//! In: jobs as they are submitted. Out: the next one, and each one's place. Must never let one client keep the
//! others out, neither of a slot nor of the queue, and never let an automation wait for as long as people ask.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::engine::{Client, Priority, Request};
use crate::error::{GenerateError, QueueFull};
use crate::event::Event;
use crate::restraint::Restraint;

/// How long an automation lets all others go first.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request and the channel that it is answered on.
pub struct Job {
    pub request: Request,
    pub events: UnboundedSender<Event>,
    /// As [`Restraint`] counts it.
    ///
    /// [`Restraint`]: crate::Restraint
    pub number: u64,
    /// The place that it was told last; 0 before the first.
    announced: usize,
    since: Instant,
}

impl Job {
    pub fn new(request: Request, events: UnboundedSender<Event>, number: u64) -> Self {
        Self {
            request,
            events,
            number,
            announced: 0,
            since: Instant::now(),
        }
    }

    fn priority(&self, now: Instant) -> Priority {
        match now.saturating_duration_since(self.since) < PATIENCE {
            true => self.request.priority,
            false => Priority::Interactive,
        }
    }
}

/// Counts who waits, for the front, which admits by it.
pub struct Admission {
    /// Requests that may wait.
    room: usize,
    waiting: Mutex<HashMap<Client, usize>>,
}

impl Admission {
    pub fn new(room: usize) -> Self {
        Self {
            room,
            waiting: Mutex::default(),
        }
    }

    /// Counts one more of `client`, unless there is no room. A part of the room is never one client's.
    pub fn enter(&self, client: &Client) -> Result<(), QueueFull> {
        let mut waiting = self.waiting();
        let all: usize = waiting.values().sum();
        let own = waiting.get(client).copied().unwrap_or(0);
        if all >= self.room || own >= self.room - self.room / 4 {
            return Err(QueueFull { waiting: all });
        }
        *waiting.entry(client.clone()).or_default() += 1;
        Ok(())
    }

    /// Counts one less.
    pub fn leave(&self, client: &Client) {
        let mut waiting = self.waiting();
        if let Some(n) = waiting.get_mut(client) {
            *n -= 1;
            if *n == 0 {
                waiting.remove(client);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.waiting.lock().expect("no panic while held")
    }
}

/// The jobs that wait, in the order of their coming.
#[derive(Default)]
pub struct Queue(Vec<Job>);

impl Queue {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, job: Job) {
        self.0.push(job);
    }

    /// Takes the job that is next, where the slots answer `busy`, a client once for each of its requests; with
    /// `people_only` no automation's that can still wait.
    pub fn next(&mut self, busy: &[Client], people_only: bool) -> Option<Job> {
        let now = Instant::now();
        let can_wait = |i: &usize| self.0[*i].priority(now) == Priority::Automation;
        let next = *self.order(busy).first()?;
        let next = Some(next).filter(|next| !people_only || !can_wait(next))?;
        Some(self.0.remove(next))
    }

    /// Drops who has gone away, who has waited too long, and who is not to be answered any more; gives all.
    pub fn drop_gone(&mut self, now: Instant, restraint: &Restraint) -> Vec<Job> {
        let gone = |job: &mut Job| {
            let late = job.request.deadline.is_some_and(|deadline| now >= deadline);
            let late = late.then_some(GenerateError::Deadline);
            let why = restraint.ends(job.number).or(late);
            let ends = why.is_some() || job.events.is_closed();
            if let Some(why) = why {
                let _ = job.events.send(Event::Failed(why));
            }
            ends
        };
        self.0.extract_if(.., gone).collect()
    }

    /// Everybody who waits.
    pub fn drain(&mut self) -> impl Iterator<Item = Job> {
        self.0.drain(..)
    }

    /// Tells everybody whose place has changed.
    pub fn announce(&mut self, busy: &[Client]) {
        for (i, job) in self.order(busy).into_iter().enumerate() {
            let (job, position) = (&mut self.0[job], i + 1);
            if job.announced != position {
                job.announced = position;
                let _ = job.events.send(Event::Queued { position });
            }
        }
    }

    /// The jobs in the order in which they would get slots.
    fn order(&self, busy: &[Client]) -> Vec<usize> {
        let mut has: HashMap<&Client, usize> = HashMap::new();
        for client in busy {
            *has.entry(client).or_default() += 1;
        }
        // Who has a slot counts as served once for each, and so does who is earlier in this order.
        let now = Instant::now();
        let mut rounds: HashMap<(&Client, Priority), usize> = HashMap::new();
        let mut order: Vec<(Priority, usize, usize)> = Vec::new();
        for (i, job) in self.0.iter().enumerate() {
            let (client, priority) = (&job.request.client, job.priority(now));
            let round = rounds.entry((client, priority)).or_default();
            order.push((priority, has.get(client).unwrap_or(&0) + *round, i));
            *round += 1;
        }
        order.sort_unstable();
        order.into_iter().map(|(_, _, i)| i).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Prompt;
    use crate::reasoning::Stage;

    fn job(client: &str, priority: Priority, waited: Duration) -> Job {
        let client = Client(client.to_owned());
        let prompt = Prompt {
            tokens: Vec::new(),
            stage: Stage::Answering,
            template: 0,
        };
        let request = Request {
            priority,
            ..Request::new(prompt, 1, client)
        };
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let mut job = Job::new(request, events, 0);
        job.since -= waited;
        job
    }

    #[test]
    fn an_automation_lets_others_go_first_for_a_while_and_then_has_its_turn() {
        let mut queue = Queue::default();
        let mut ask = |client, priority, waited| queue.push(job(client, priority, waited));
        ask("mqtt", Priority::Automation, PATIENCE / 2);
        ask("phone", Priority::Interactive, Duration::ZERO);
        ask("attic", Priority::Automation, 2 * PATIENCE);
        ask("phone", Priority::Interactive, Duration::ZERO);
        let order: Vec<usize> = queue.order(&[]);
        assert_eq!(order, [1, 2, 3, 0]);
        let mut only = Queue::default();
        only.push(job("mqtt", Priority::Automation, PATIENCE / 2));
        assert!(only.next(&[], true).is_none());
        assert!(only.next(&[], false).is_some());
        let busy = [Client("attic".to_owned())];
        assert_eq!(
            queue.order(&busy),
            [1, 2, 3, 0],
            "who has a slot already is served once"
        );
    }
}
