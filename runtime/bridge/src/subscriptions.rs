//! What was ever listened to. The broker keeps a session, and in it each subscription, for a bridge that is
//! away: one that is started with fewer pools or recipes has to say that it listens to the others no longer.
//!
//! In: topic filters. Out: those of before that are not among them. Kept in the journal's file.

use rusqlite::{Connection, Result};

/// Keeps what is listened to from now on; returns what else was, ever.
pub fn remember(db: &Connection, wanted: &[String]) -> Result<Vec<String>> {
    for filter in wanted {
        db.prepare_cached("INSERT OR IGNORE INTO subscriptions (filter) VALUES (?)")?
            .execute([filter])?;
    }
    let ever: Vec<String> = db
        .prepare_cached("SELECT filter FROM subscriptions")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let unwanted = ever.into_iter().filter(|filter| !wanted.contains(filter));
    Ok(unwanted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_no_longer_is_named_until_it_is_wanted_again() {
        let db = crate::answers::open(std::path::Path::new(":memory:")).unwrap();
        let filters = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        assert!(remember(&db, &filters(&["a", "b/#"])).unwrap().is_empty());
        assert_eq!(remember(&db, &filters(&["a", "c"])).unwrap(), ["b/#"]);
        assert_eq!(remember(&db, &filters(&["a"])).unwrap(), ["b/#", "c"]);
        assert_eq!(remember(&db, &filters(&["b/#"])).unwrap(), ["a", "c"]);
    }
}
