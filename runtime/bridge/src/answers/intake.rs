//! Takes asks in: those that are new wait, those that are known join what they repeat, and those that cannot
//! be had are told so.

use rusqlite::{OptionalExtension, Result, params};
use serde_json::Value;

use super::outgoing::{DELIVERED, DUE, Target, WAITING, properties_text};
use super::{Answers, MAX_TARGETS, MAX_WAITING_BYTES, Moment};
use crate::answer::{AskError, ErrorCode};
use crate::topics::{AskId, Place};

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

impl Answers {
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
        let told: Vec<_> = targets.iter().filter(|target| !target.bare).collect();
        // Where nobody is told, nothing would ever be delivered, and so nothing erased.
        if !told.is_empty() {
            self.db
                .prepare_cached("INSERT INTO asks (answer) VALUES (?)")?
                .execute([error.payload(id).as_ref()])?;
            let seq = self.db.last_insert_rowid();
            for target in told {
                self.add_target(seq, target, DUE)?;
            }
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
}
