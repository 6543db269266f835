//! The journal: a thread that owns [`Answers`] and writes down what is done to them.
//!
//! In: jobs. Out: each job's result, once everything that it wrote is on the disk. Jobs that come
//! together share one commit, so that a flood costs few of them.
//! Must never report a write that a power cut could still take back, and must never let one job's
//! failure take another's work away.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cloister_program::private;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, info, warn};

use crate::answers::{self, Answers, Limits, Moment};

/// How many jobs may wait; who brings more waits too, and through them the broker.
const WAITING_JOBS: usize = 256;

/// How many jobs share a commit at most.
const JOBS_PER_COMMIT: usize = 256;

/// What is done to the asks, and who hears of it.
trait Job: Send {
    /// Done twice if it shared a commit that failed: then once more, alone.
    fn run(&mut self, answers: &mut Answers) -> rusqlite::Result<()>;
    /// Tells the outcome, once it is on the disk or cannot get there.
    fn tell(self: Box<Self>, failure: Option<&rusqlite::Error>);
}

struct Work<T, Run, Then> {
    run: Run,
    outcome: Option<T>,
    then: Then,
}

impl<T, Run, Then> Job for Work<T, Run, Then>
where
    T: Send,
    Run: FnMut(&mut Answers) -> rusqlite::Result<T> + Send,
    Then: FnOnce(Result<T, Failure>) + Send,
{
    fn run(&mut self, answers: &mut Answers) -> rusqlite::Result<()> {
        self.outcome = Some((self.run)(answers)?);
        Ok(())
    }

    fn tell(self: Box<Self>, failure: Option<&rusqlite::Error>) {
        let outcome = match (failure, self.outcome) {
            (None, Some(outcome)) => Ok(outcome),
            (Some(error), _) => Err(Failure(error.to_string())),
            (None, None) => Err(Failure("it is closed".into())),
        };
        (self.then)(outcome);
    }
}

enum Order {
    Do(Box<dyn Job>),
    /// Empties the log once all before it is done.
    Erase,
    End,
}

/// Why something could not be written down: the disk is full, or it failed.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub struct Failure(String);

/// The way to the journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    orders: mpsc::Sender<Order>,
    /// Told whenever an ask may wait for its turn.
    pub waiting: Arc<Notify>,
    /// Told whenever an answer may wait to be published.
    pub due: Arc<Notify>,
}

/// Now, by the clock on the wall.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as Moment)
}

impl Journal {
    /// Opens the journal in this folder, or makes it, and starts its thread.
    ///
    /// # Errors
    /// Another bridge has it open; it is damaged; the folder cannot be written.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Self, JoinHandle<()>)> {
        let path = folder.join("journal.sqlite");
        // One of before, which others could read; SQLite gives the files beside it the same mode.
        for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
            let file = folder.join(name);
            private::file(&file)
                .with_context(|| format!("cannot close {} to others", file.display()))?;
        }
        let answers = answers::open(&path)
            .and_then(|db| Ok(Answers::of(db, limits)?))
            .with_context(|| {
                format!(
                    "cannot open the journal {}; is another bridge running with this state folder? If the file is damaged, move it away: what was asked and not answered is lost with it",
                    path.display()
                )
            })?;
        let (orders, taken) = mpsc::channel(WAITING_JOBS);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || write(answers, taken))
            .context("cannot start the journal's thread")?;
        let journal = Self {
            orders,
            waiting: Arc::default(),
            due: Arc::default(),
        };
        Ok((journal, thread))
    }

    /// Does something with the asks and returns its result once it is on the disk.
    pub async fn with<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut Answers) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, result) = oneshot::channel();
        self.hand_in(job, move |outcome| {
            // Whoever asked may have gone.
            let _ = sender.send(outcome);
        })
        .await;
        result
            .await
            .unwrap_or_else(|_| Err(Failure("it is closed".into())))
    }

    /// As [`Journal::with`], but waits only for a place in the order: `then` hears the result, on the
    /// journal's thread.
    pub async fn hand_in<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Answers) -> rusqlite::Result<T> + Send + 'static,
        then: impl FnOnce(Result<T, Failure>) + Send + 'static,
    ) {
        let job = Work {
            run,
            outcome: None,
            then,
        };
        // The thread ends last of all; what comes later is as if the process had ended.
        let _ = self.orders.send(Order::Do(Box::new(job))).await;
    }

    /// Has the log emptied, so that what was deleted is on the disk no longer.
    pub async fn erase(&self) {
        let _ = self.orders.send(Order::Erase).await;
    }

    /// Returns when the thread has ended, whyever.
    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    /// Ends the thread after what was handed in before.
    pub async fn end(&self) {
        let _ = self.orders.send(Order::End).await;
    }
}

fn write(mut answers: Answers, mut orders: mpsc::Receiver<Order>) {
    let mut batch: Vec<Box<dyn Job>> = Vec::new();
    let mut health = Health::default();
    while let Some(first) = orders.blocking_recv() {
        let mut order = Some(first);
        let mut erase = false;
        let mut end = false;
        while let Some(taken) = order.take() {
            match taken {
                Order::Do(job) => batch.push(job),
                Order::Erase => erase = true,
                Order::End => end = true,
            }
            // What is handed in after an erasure finds it done.
            if batch.len() < JOBS_PER_COMMIT && !erase && !end {
                order = orders.try_recv().ok();
            }
        }
        commit(&mut answers, std::mem::take(&mut batch), &mut health);
        if erase && let Err(error) = answers::checkpoint(answers.database()) {
            warn!("what was erased from the journal may still be on the disk: {error}");
        }
        if end {
            return;
        }
    }
}

/// Whether it can be written; told once for each change, for a line for each try would fill the same disk.
#[derive(Default)]
struct Health {
    fails: bool,
}

impl Health {
    fn failed(&mut self, error: &rusqlite::Error) {
        if !self.fails {
            error!("the journal cannot be written: {error}; who asks is told so until it can");
        }
        self.fails = true;
    }

    fn wrote(&mut self) {
        if self.fails {
            info!("the journal can be written again");
        }
        self.fails = false;
    }
}

/// All in one transaction; if that fails, each in its own.
fn commit(answers: &mut Answers, mut jobs: Vec<Box<dyn Job>>, health: &mut Health) {
    if jobs.is_empty() {
        return;
    }
    let changes_before = answers.database().total_changes();
    match transaction(answers, &mut jobs) {
        Ok(()) => {
            // Those that only look say nothing of the disk.
            if answers.database().total_changes() != changes_before {
                health.wrote();
            }
            jobs.into_iter().for_each(|job| job.tell(None));
        }
        Err(error) if jobs.len() == 1 => {
            health.failed(&error);
            jobs.into_iter().for_each(|job| job.tell(Some(&error)));
        }
        Err(_) => {
            for job in jobs {
                commit(answers, vec![job], health);
            }
        }
    }
}

fn transaction(answers: &mut Answers, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let before = answers.in_memory();
    let done = answers.database().execute_batch("BEGIN").and_then(|()| {
        for job in jobs {
            job.run(answers)?;
        }
        answers.database().execute_batch("COMMIT")
    });
    if done.is_err() {
        // Fails only where SQLite has taken it back by itself.
        let _ = answers.database().execute_batch("ROLLBACK");
        answers.take_back(before);
    }
    done
}

#[cfg(test)]
mod tests;
