//! Which asks wait, which are running and which were answered: an ask is never run twice, and its
//! answer is kept until it is delivered.
//!
//! In: asks as they are taken, answered, cancelled, delivered. Out: what is to be computed next, what is
//! to be published next. Lives in the journal's database; texts are in memory only while somebody
//! works with them. Knows neither MQTT nor HTTP.
//! Must never forget an unanswered ask, must never give one request the answer of another, and must
//! never keep what was asked or answered longer than it has to.

mod schema;
#[cfg(test)]
pub mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::answer::{AskError, ErrorCode};
use crate::topics::{AskId, Place};

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

/// Where one answer goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The topic.
    pub topic: String,
    /// MQTT 5 Correlation Data, given back as it came.
    pub correlation: Option<Bytes>,
    /// MQTT 5 User Properties, given back as they came.
    pub user_properties: Vec<(String, String)>,
    /// Whether the answer's text alone is wanted, and nothing in place of an answer.
    pub bare: bool,
}

/// Why a running ask is to end before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Its asker cancelled it.
    Cancelled,
    /// The bridge is stopping; the ask stays in the journal.
    Stopping,
}

/// An ask on its way into the journal.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Who was asked, this box or one of its pools.
    pub place: Place,
    /// Its id.
    pub id: AskId,
    /// Whether the asker chose the id.
    pub own_id: bool,
    /// The broker's number for the message, with whether it says that it may have sent it before.
    pub packet: Option<(u16, bool)>,
    /// Whether the broker had kept the message from before we listened.
    pub retained: bool,
    /// The body for the engine.
    pub request: Value,
    /// What the bridge has to know besides, as JSON.
    pub options: String,
    /// When it is too late to begin.
    pub deadline: Option<Moment>,
    /// Where its answer goes.
    pub targets: Vec<Target>,
}

/// What became of an ask that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// It waits for its turn.
    Waits,
    /// It waits or runs already; its answer will go to these targets too.
    Joined,
    /// It was answered; the same answer goes out again.
    AnsweredAlready,
    /// The broker sent again what we had, or had kept what was answered before.
    KnownAlready,
    /// It is told that it cannot be had.
    Refused(ErrorCode),
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
    /// Fires when it is to end early.
    pub interrupted: oneshot::Receiver<Interrupt>,
}

/// Something to be published, until the broker has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number, for [`Answers::delivered`].
    pub number: i64,
    /// Where it goes.
    pub target: Target,
    /// What is published.
    pub payload: Bytes,
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

const WAITING: i64 = 0;
const DUE: i64 = 1;
const DELIVERED: i64 = 2;

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

    /// Takes an ask in. Asks are the same when place, id and request are.
    pub fn take(&mut self, intake: &Intake, now: Moment) -> Result<Taken> {
        let fingerprint = self.key.hash(&intake.request);
        if !intake.own_id && self.has_come_before(intake, &fingerprint)? {
            return Ok(Taken::KnownAlready);
        }
        let name = self.key.hash(&(&intake.place, &intake.id));
        let known: Option<(i64, Vec<u8>, bool)> = self
            .db
            .prepare_cached("SELECT seq, fingerprint, answer IS NOT NULL FROM asks WHERE name = ?")?
            .query_row([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        if let Some((seq, earlier, answered)) = known {
            if earlier != fingerprint {
                let error = AskError::new(
                    ErrorCode::BadRequest,
                    "\"id\" names an earlier ask that asked for something else; take a new one",
                );
                return self.refuse(Some(&intake.id), &intake.targets, &error);
            }
            if intake.retained {
                return Ok(Taken::KnownAlready);
            }
            return self.join(seq, answered, intake);
        }
        let erased = self
            .db
            .prepare_cached("SELECT 1 FROM answered WHERE name = ?")?
            .exists([&name])?;
        if erased && intake.retained {
            return Ok(Taken::KnownAlready);
        }
        if erased {
            let error = AskError::new(
                ErrorCode::Answered,
                "an ask with this id was answered before, and its answer is erased by now; take a new id",
            );
            return self.refuse(Some(&intake.id), &intake.targets, &error);
        }
        if self.counts.unanswered >= self.limits.unanswered
            || self.counts.unanswered_bytes >= MAX_WAITING_BYTES
        {
            let error = AskError::busy(
                self.counts.unanswered,
                self.pace.wait(now, self.counts.unanswered),
            );
            return self.refuse(Some(&intake.id), &intake.targets, &error);
        }
        let request = intake.request.to_string();
        self.db
            .prepare_cached(
                "INSERT INTO asks (name, id, pool, fingerprint, packet, request, options, deadline)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                name,
                intake.id.as_str(),
                intake.place.pool(),
                fingerprint,
                intake
                    .packet
                    .filter(|_| !intake.own_id)
                    .map(|(number, _)| number),
                request,
                intake.options,
                intake.deadline,
            ])?;
        let seq = self.db.last_insert_rowid();
        for target in &intake.targets {
            self.add_target(seq, target, WAITING)?;
        }
        self.counts.unanswered += 1;
        self.counts.unanswered_bytes += request.len() as u64;
        Ok(Taken::Waits)
    }

    /// Whether an ask without an id of its own is one that we have: the broker sends again what it has
    /// no acknowledgement for, and what it keeps.
    fn has_come_before(&self, intake: &Intake, fingerprint: &[u8]) -> Result<bool> {
        if intake.retained {
            return self
                .db
                .prepare_cached(
                    "SELECT 1 FROM asks WHERE fingerprint = ?1
                     UNION ALL SELECT 1 FROM answered WHERE fingerprint = ?1",
                )?
                .exists([fingerprint]);
        }
        let Some((number, true)) = intake.packet else {
            return Ok(false);
        };
        self.db
            .prepare_cached("SELECT 1 FROM asks WHERE fingerprint = ? AND packet = ?")?
            .exists(params![fingerprint, number])
    }

    fn join(&mut self, seq: i64, answered: bool, intake: &Intake) -> Result<Taken> {
        for target in &intake.targets {
            let same: Option<(i64, i64)> = self
                .db
                .prepare_cached(
                    "SELECT number, state FROM targets
                     WHERE ask = ? AND topic = ? AND correlation IS ? AND properties = ? AND bare = ?",
                )?
                .query_row(
                    params![
                        seq,
                        target.topic,
                        target.correlation.as_deref(),
                        properties_text(target),
                        target.bare
                    ],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            match same {
                Some((number, DELIVERED)) => {
                    self.db
                        .prepare_cached("UPDATE targets SET state = ? WHERE number = ?")?
                        .execute([DUE, number])?;
                }
                Some(_) => {}
                None => {
                    let targets: i64 = self
                        .db
                        .prepare_cached("SELECT count(*) FROM targets WHERE ask = ?")?
                        .query_row([seq], |row| row.get(0))?;
                    if targets >= MAX_TARGETS {
                        let error = AskError::new(
                            ErrorCode::BadRequest,
                            format!(
                                "one answer goes to at most {MAX_TARGETS} places; take a new id"
                            ),
                        );
                        return self.refuse(Some(&intake.id), &intake.targets, &error);
                    }
                    self.add_target(seq, target, if answered { DUE } else { WAITING })?;
                }
            }
        }
        if !answered {
            return Ok(Taken::Joined);
        }
        self.db
            .prepare_cached("UPDATE asks SET done_at = NULL WHERE seq = ?")?
            .execute([seq])?;
        Ok(Taken::AnsweredAlready)
    }

    /// Tells these targets that an ask cannot be had. That is written down too, until it is delivered.
    pub fn refuse(
        &mut self,
        id: Option<&AskId>,
        targets: &[Target],
        error: &AskError,
    ) -> Result<Taken> {
        self.db
            .prepare_cached("INSERT INTO asks (answer) VALUES (?)")?
            .execute([error.payload(id).as_ref()])?;
        let seq = self.db.last_insert_rowid();
        for target in targets.iter().filter(|target| !target.bare) {
            self.add_target(seq, target, DUE)?;
        }
        Ok(Taken::Refused(error.code))
    }

    fn add_target(&self, ask: i64, target: &Target, state: i64) -> Result<()> {
        self.db
            .prepare_cached(
                "INSERT INTO targets (ask, topic, correlation, properties, bare, state) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                ask,
                target.topic,
                target.correlation.as_deref(),
                properties_text(target),
                target.bare,
                state
            ])?;
        Ok(())
    }

    /// Gives the first ask that waits its turn.
    pub fn next(&mut self) -> Result<Option<Turn>> {
        let (interrupt, interrupted) = oneshot::channel();
        let found = self
            .db
            .prepare_cached(
                "SELECT seq, pool, id, request, options, deadline FROM asks
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

    /// Up to `most` answers that are to be published and are not on their way yet, in order.
    pub fn due(&mut self, most: usize) -> Result<Vec<Delivery>> {
        let mut found = Vec::new();
        let mut statement = self.db.prepare_cached(
            "SELECT number, topic, correlation, properties, bare, answer
             FROM targets JOIN asks ON seq = ask WHERE state = 1 ORDER BY number",
        )?;
        let mut rows = statement.query([])?;
        while found.len() < most
            && let Some(row) = rows.next()?
        {
            let number = row.get(0)?;
            if !self.on_their_way.insert(number) {
                continue;
            }
            let target = Target {
                topic: row.get(1)?,
                correlation: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
                user_properties: serde_json::from_str(&row.get::<_, String>(3)?)
                    .unwrap_or_default(),
                bare: row.get(4)?,
            };
            let payload = Bytes::from(row.get::<_, Vec<u8>>(5)?);
            found.push(Delivery {
                number,
                target,
                payload,
            });
        }
        Ok(found)
    }

    /// The broker has it.
    pub fn delivered(&mut self, number: i64, now: Moment) -> Result<()> {
        self.on_their_way.remove(&number);
        let ask: Option<i64> = self
            .db
            .prepare_cached("UPDATE targets SET state = ? WHERE number = ? RETURNING ask")?
            .query_row([DELIVERED, number], |row| row.get(0))
            .optional()?;
        let Some(ask) = ask else { return Ok(()) };
        let done = !self
            .db
            .prepare_cached("SELECT 1 FROM targets WHERE ask = ? AND state != ?")?
            .exists([ask, DELIVERED])?;
        if done {
            self.db
                .prepare_cached("UPDATE asks SET done_at = ? WHERE seq = ?")?
                .execute([now, ask])?;
        }
        Ok(())
    }

    /// Answers what has expired, with `expired`, and erases what was delivered long enough ago. Says
    /// whether anything was erased: then old pages of the log are to be erased too.
    pub fn tidy(&mut self, expired: impl Fn(&AskId) -> Bytes, now: Moment) -> Result<bool> {
        let late = self.some_waiting(
            "SELECT seq, id FROM asks WHERE answer IS NULL AND deadline <= ? AND seq > ? LIMIT 100",
            [now, self.turned_up_to],
        )?;
        for (seq, id) in late {
            self.finish(seq, &expired(&id), now)?;
        }
        let keep = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        // `done_at > now`: the clock went back, and would keep a text for as long as it went.
        let erase = "done_at <= ?1 OR done_at > ?2 OR (done_at IS NOT NULL AND name IS NULL)";
        let range = [now.saturating_sub(keep), now];
        self.db
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO answered (name, fingerprint, at)
                 SELECT name, fingerprint, ?2 FROM asks WHERE name IS NOT NULL AND ({erase})"
            ))?
            .execute(range)?;
        self.db
            .prepare_cached(&format!(
                "DELETE FROM targets WHERE ask IN (SELECT seq FROM asks WHERE {erase})"
            ))?
            .execute(range)?;
        let erased = self
            .db
            .prepare_cached(&format!("DELETE FROM asks WHERE {erase}"))?
            .execute(range)?;
        self.db
            .prepare_cached("DELETE FROM answered WHERE at <= ?1 OR at > ?2")?
            .execute([now - REMEMBERED_MS, now])?;
        Ok(erased > 0)
    }
}

fn properties_text(target: &Target) -> String {
    serde_json::to_string(&target.user_properties).expect("strings always serialize")
}

fn place(row: &Row, column: usize) -> Result<Place> {
    Ok(Place::stored(row.get(column)?))
}

fn id(row: &Row, column: usize) -> Result<AskId> {
    Ok(AskId::stored(row.get(column)?))
}

/// How fast answers come, by the latest few.
#[derive(Default)]
struct Pace {
    last: Option<Moment>,
    mean_ms: f64,
}

impl Pace {
    fn answered(&mut self, now: Moment) {
        if let Some(last) = self.last.replace(now) {
            // A pause without asks says nothing of the pace.
            let took = (now - last).clamp(0, 60_000) as f64;
            self.mean_ms = if self.mean_ms == 0.0 {
                took
            } else {
                0.8 * self.mean_ms + 0.2 * took
            };
        }
    }

    /// Seconds until a tenth of those who wait will be answered; at least one.
    fn wait(&self, now: Moment, waiting: u64) -> u64 {
        let since = self.last.map_or(0, |last| (now - last).clamp(0, 60_000)) as f64;
        let each = self.mean_ms.max(since / 10.0);
        ((each * waiting as f64 / 10.0 / 1000.0).ceil() as u64).clamp(1, 3600)
    }
}
