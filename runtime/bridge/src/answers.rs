//! Which asks wait, which are running and which were answered: an ask is never run twice, and its
//! answer is kept until it is delivered.
//!
//! In: asks as they are taken, answered, cancelled, delivered. Out: what is to be computed next, what is
//! to be published next. Lives in the journal's database; texts are in memory only while somebody
//! works with them. Knows neither MQTT nor HTTP.
//! Must never forget an unanswered ask, must never give one request the answer of another, and must
//! never keep what was asked or answered longer than it has to.

mod intake;
mod outgoing;
mod pace;
mod schema;
#[cfg(test)]
pub mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use tokio::sync::oneshot;

use crate::topics::{AskId, Place};

pub use intake::{Intake, Taken};
use outgoing::DUE;
pub use outgoing::{Delivery, Target};
use pace::Pace;
use schema::Key;
pub use schema::{checkpoint, open};

/// The most bytes of requests that may wait; they lie on the disk of a small board.
const MAX_WAITING_BYTES: u64 = 256 * 1024 * 1024;

/// The most places that one answer may go to.
const MAX_TARGETS: i64 = 64;

/// How long it is remembered that an id was answered, after its answer is erased: one day.
const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1000;

/// Milliseconds since 1970, by the clock on the wall: it goes on while the bridge is away.
pub type Moment = i64;

/// Why a running ask is to end before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Its asker cancelled it.
    Cancelled,
    /// The bridge is stopping; the ask stays in the journal.
    Stopping,
}

/// An ask whose turn has come.
#[derive(Debug)]
pub struct Turn {
    /// Its place in the order.
    pub seq: i64,
    /// Who was asked.
    pub place: Place,
    /// Its id.
    pub id: AskId,
    /// The body for the engine.
    pub request: String,
    /// As in [`Intake`].
    pub options: String,
    /// When it is too late to begin.
    pub deadline: Option<Moment>,
    /// As of [`Answers::broken_off`].
    pub broken_off: u32,
    /// Fires when it is to end early.
    pub interrupted: oneshot::Receiver<Interrupt>,
}

/// Figures of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Asks without an answer yet, running ones too.
    pub unanswered: u64,
    /// Bytes of their requests.
    pub unanswered_bytes: u64,
    /// Asks that are running.
    pub running: u64,
}

/// The asks.
pub struct Answers {
    db: Connection,
    key: Key,
    limits: Limits,
    counts: Counts,
    /// Every ask up to here has been given its turn.
    turned_up_to: i64,
    running: HashMap<i64, oneshot::Sender<Interrupt>>,
    on_their_way: HashSet<i64>,
    /// When the latest answers came; tells how long a full queue takes.
    pace: Pace,
}

/// What may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most asks that may be unanswered.
    pub unanswered: u64,
    /// How long an answer is kept after the broker has it.
    pub keep: Duration,
}

impl Answers {
    /// The asks in this database.
    pub fn of(db: Connection, limits: Limits) -> Result<Self> {
        let key = schema::key(&db)?;
        let mut answers = Self {
            db,
            key,
            limits,
            counts: Counts::default(),
            turned_up_to: 0,
            running: HashMap::new(),
            on_their_way: HashSet::new(),
            pace: Pace::default(),
        };
        answers.recount()?;
        Ok(answers)
    }

    /// The database, for transactions.
    pub fn database(&self) -> &Connection {
        &self.db
    }

    /// What is in memory only, for [`Answers::take_back`].
    pub fn in_memory(&self) -> (i64, HashSet<i64>) {
        (self.turned_up_to, self.on_their_way.clone())
    }

    /// Forgets what a transaction did in memory that was taken back.
    pub fn take_back(&mut self, (turned_up_to, on_their_way): (i64, HashSet<i64>)) {
        self.turned_up_to = turned_up_to;
        self.on_their_way = on_their_way;
        self.running.retain(|seq, _| *seq <= turned_up_to);
        // Where even that cannot be read, the old figures stand.
        let _ = self.recount();
    }

    fn recount(&mut self) -> Result<()> {
        let (unanswered, bytes): (i64, i64) = self.db.query_row(
            "SELECT count(*), coalesce(sum(length(request)), 0) FROM asks WHERE answer IS NULL",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        self.counts.unanswered = unanswered.unsigned_abs();
        self.counts.unanswered_bytes = bytes.unsigned_abs();
        Ok(())
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            running: self.running.len() as u64,
            ..self.counts
        }
    }

    /// Gives the first ask that waits its turn.
    pub fn next(&mut self) -> Result<Option<Turn>> {
        let (interrupt, interrupted) = oneshot::channel();
        let found = self
            .db
            .prepare_cached(
                "SELECT seq, pool, id, request, options, deadline,
                   COALESCE((SELECT times FROM broken_off WHERE ask = seq), 0) FROM asks
                 WHERE answer IS NULL AND seq > ? ORDER BY seq LIMIT 1",
            )?
            .query_row([self.turned_up_to], |row| {
                Ok(Turn {
                    seq: row.get(0)?,
                    place: place(row, 1)?,
                    id: id(row, 2)?,
                    request: row.get(3)?,
                    options: row.get(4)?,
                    deadline: row.get(5)?,
                    broken_off: row.get(6)?,
                    interrupted,
                })
            })
            .optional()?;
        if let Some(turn) = &found {
            self.turned_up_to = turn.seq;
            self.running.insert(turn.seq, interrupt);
        }
        Ok(found)
    }

    /// Counts that the engine went away while it had this ask; says how often by now.
    pub fn broken_off(&mut self, seq: i64) -> Result<u32> {
        self.db
            .prepare_cached(
                "INSERT INTO broken_off (ask, times) VALUES (?, 1)
                 ON CONFLICT (ask) DO UPDATE SET times = times + 1 RETURNING times",
            )?
            .query_row([seq], |row| row.get(0))
    }

    /// Writes down the one answer to an ask; it is due then.
    pub fn finish(&mut self, seq: i64, answer: &[u8], now: Moment) -> Result<()> {
        let bytes: Option<i64> = self
            .db
            .prepare_cached("SELECT length(request) FROM asks WHERE seq = ? AND answer IS NULL")?
            .query_row([seq], |row| row.get(0))
            .optional()?;
        self.running.remove(&seq);
        let Some(bytes) = bytes else { return Ok(()) };
        self.db
            .prepare_cached("UPDATE asks SET answer = ?, request = NULL WHERE seq = ?")?
            .execute(params![answer, seq])?;
        self.db
            .prepare_cached("DELETE FROM broken_off WHERE ask = ?")?
            .execute([seq])?;
        self.db
            .prepare_cached("UPDATE targets SET state = ? WHERE ask = ?")?
            .execute([DUE, seq])?;
        self.counts.unanswered = self.counts.unanswered.saturating_sub(1);
        self.counts.unanswered_bytes = self
            .counts
            .unanswered_bytes
            .saturating_sub(bytes.unsigned_abs());
        self.pace.answered(now);
        Ok(())
    }

    /// Ends an ask early: interrupts it if it runs, else `answer` is its answer. False if no such ask is
    /// unanswered.
    pub fn cancel(
        &mut self,
        place: &Place,
        id: &AskId,
        answer: &[u8],
        now: Moment,
    ) -> Result<bool> {
        let name = self.key.hash(&(place, id));
        let seq: Option<i64> = self
            .db
            .prepare_cached("SELECT seq FROM asks WHERE name = ? AND answer IS NULL")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let Some(seq) = seq else { return Ok(false) };
        if seq > self.turned_up_to {
            self.finish(seq, answer, now)?;
            return Ok(true);
        }
        let interrupt = self.running.remove(&seq);
        Ok(interrupt.is_some_and(|interrupt| interrupt.send(Interrupt::Cancelled).is_ok()))
    }

    /// Ends every ask early, as [`Answers::cancel`] does one; says how many.
    pub fn cancel_all(&mut self, answer: impl Fn(&AskId) -> Bytes, now: Moment) -> Result<usize> {
        let mut ended = 0;
        for (_, interrupt) in self.running.drain() {
            ended += usize::from(interrupt.send(Interrupt::Cancelled).is_ok());
        }
        Ok(ended + self.end_waiting(answer, now)?)
    }

    /// Answers every ask so whose turn has not come yet; says how many.
    pub fn end_waiting(&mut self, answer: impl Fn(&AskId) -> Bytes, now: Moment) -> Result<usize> {
        let mut ended = 0;
        loop {
            let waiting = self.some_waiting(
                "SELECT seq, id FROM asks WHERE answer IS NULL AND seq > ? LIMIT 100",
                [self.turned_up_to],
            )?;
            if waiting.is_empty() {
                return Ok(ended);
            }
            for (seq, id) in waiting {
                self.finish(seq, &answer(&id), now)?;
                ended += 1;
            }
        }
    }

    /// Forgets every ask and every answer, whether they were delivered or not. Settings stay.
    pub fn forget_all(&mut self) -> Result<()> {
        for (_, interrupt) in self.running.drain() {
            // Its end finds nothing to write its answer to.
            let _ = interrupt.send(Interrupt::Cancelled);
        }
        self.db.execute_batch(
            "DELETE FROM targets; DELETE FROM asks; DELETE FROM answered; DELETE FROM broken_off;",
        )?;
        self.on_their_way.clear();
        self.recount()
    }

    /// Whether somebody is still to be told something: an ask without its answer, an answer that the broker has not.
    pub fn owes_anything(&self) -> Result<bool> {
        let due =
            "SELECT 1 FROM asks LEFT JOIN targets ON ask = seq WHERE answer IS NULL OR state = ?";
        self.db.prepare_cached(due)?.exists([DUE])
    }

    /// How many asks there are, with their answers, and how many hashes of such as were answered and are erased.
    pub fn kept(&self) -> Result<[u64; 2]> {
        let count = "SELECT (SELECT count(*) FROM asks), (SELECT count(*) FROM answered)";
        let counts = |row: &Row| Ok([row.get::<_, i64>(0)?, row.get(1)?]);
        let rows = self.db.query_row(count, [], counts)?;
        Ok(rows.map(i64::unsigned_abs))
    }

    /// Interrupts every running ask without answering any, for a clean end of the bridge.
    pub fn stop(&mut self) {
        for (_, interrupt) in self.running.drain() {
            // Nobody listens any more when the ask has just ended by itself.
            let _ = interrupt.send(Interrupt::Stopping);
        }
    }

    fn some_waiting(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<(i64, AskId)>> {
        self.db
            .prepare_cached(query)?
            .query_map(parameters, |row| Ok((row.get(0)?, id(row, 1)?)))?
            .collect()
    }
}

fn place(row: &Row, column: usize) -> Result<Place> {
    Ok(Place::stored(row.get(column)?))
}

fn id(row: &Row, column: usize) -> Result<AskId> {
    Ok(AskId::stored(row.get(column)?))
}
