//! Where answers go, until the broker has them, and how long they are kept after that.

use bytes::Bytes;
use rusqlite::{OptionalExtension, Result};

use super::{Answers, Moment, REMEMBERED_MS};
use crate::topics::AskId;

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

pub(super) const WAITING: i64 = 0;
pub(super) const DUE: i64 = 1;
pub(super) const DELIVERED: i64 = 2;

impl Answers {
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
            "SELECT seq, id FROM asks WHERE answer IS NULL AND deadline <= ? AND seq > ? LIMIT 1000",
            [now, self.turned_up_to],
        )?;
        for (seq, id) in late {
            self.finish(seq, &expired(&id), now)?;
        }
        // The clock may have gone back: what is kept counts from now on then, or it would be kept, or an id be
        // remembered, for as long as it went.
        for (table, at) in [("asks", "done_at"), ("answered", "at")] {
            self.db
                .prepare_cached(&format!("UPDATE {table} SET {at} = ?1 WHERE {at} > ?1"))?
                .execute([now])?;
        }
        let keep = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        let long_ago = now.saturating_sub(keep);
        // Of a refusal nothing is asked again.
        let erase = "(done_at <= ?1 OR (done_at IS NOT NULL AND name IS NULL))";
        self.db
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO answered (name, fingerprint, at)
                 SELECT name, fingerprint, ?2 FROM asks WHERE name IS NOT NULL AND {erase}"
            ))?
            .execute([long_ago, now])?;
        for table in ["targets", "broken_off"] {
            self.db
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE ask IN (SELECT seq FROM asks WHERE {erase})"
                ))?
                .execute([long_ago])?;
        }
        let erased = self
            .db
            .prepare_cached(&format!("DELETE FROM asks WHERE {erase}"))?
            .execute([long_ago])?;
        self.db
            .prepare_cached("DELETE FROM answered WHERE at <= ?")?
            .execute([now - REMEMBERED_MS])?;
        Ok(erased > 0)
    }
}

pub(super) fn properties_text(target: &Target) -> String {
    serde_json::to_string(&target.user_properties).expect("strings always serialize")
}
