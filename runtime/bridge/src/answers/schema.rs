//! The journal's file: its tables, how SQLite is to treat it, and the key of its hashes.
//!
//! In: a path. Out: a connection that nobody else has.
//! Must never answer a write before it is on the disk, and must never leave what was deleted there.

use std::ffi::c_void;
use std::hash::Hash;
use std::path::Path;
use std::ptr::null_mut;

use rusqlite::{Connection, OptionalExtension, Result, ffi};
use siphasher::sip128::{Hasher128, SipHasher24};

/// The layout of the tables; a file with another one is not touched.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE meta (hash_key BLOB NOT NULL);
-- An ask with its answer, or, without a name, a refusal. `name` and `fingerprint` are keyed hashes: of
-- place and id, and of the request. `packet` is the broker's number for an ask without an id of its own.
CREATE TABLE asks (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  name BLOB UNIQUE,
  id TEXT,
  pool TEXT,
  fingerprint BLOB,
  packet INTEGER,
  request TEXT,
  options TEXT,
  deadline INTEGER,
  answer BLOB,
  done_at INTEGER
);
CREATE INDEX unanswered ON asks (seq) WHERE answer IS NULL;
CREATE INDEX late ON asks (deadline) WHERE answer IS NULL AND deadline IS NOT NULL;
CREATE INDEX done ON asks (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX unnamed ON asks (fingerprint);
-- Where an answer goes. `state`: 0 there is none yet, 1 it is to be published, 2 the broker has it.
CREATE TABLE targets (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  ask INTEGER NOT NULL REFERENCES asks,
  topic TEXT NOT NULL,
  correlation BLOB,
  properties TEXT NOT NULL,
  bare INTEGER NOT NULL,
  state INTEGER NOT NULL
);
CREATE INDEX of_ask ON targets (ask);
CREATE INDEX due ON targets (number) WHERE state = 1;
-- What was answered and is erased.
CREATE TABLE answered (name BLOB PRIMARY KEY, fingerprint BLOB, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX answered_at ON answered (at);
CREATE INDEX answered_fingerprint ON answered (fingerprint);
";

/// Made also in a file of before there were such tables: what is set over MQTT, in one row, as JSON; what was
/// ever listened to; how often the engine went away while it had an ask.
const FURTHER_TABLES: &str = "
CREATE TABLE IF NOT EXISTS defaults (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (filter TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS broken_off (ask INTEGER PRIMARY KEY, times INTEGER NOT NULL);
";

/// Opens the journal, or makes it. Nobody else can open it until this connection ends.
///
/// # Errors
/// What SQLite says, or that the file is of another version.
pub fn open(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path)?;
    // SQLite keeps small blocks to itself, unwiped: none of them.
    // SAFETY: the connection is open, and the three arguments are those that this option takes.
    let set = unsafe {
        ffi::sqlite3_db_config(
            db.handle(),
            ffi::SQLITE_DBCONFIG_LOOKASIDE,
            null_mut::<c_void>(),
            0,
            0,
        )
    };
    anyhow::ensure!(
        set == ffi::SQLITE_OK,
        "SQLite refuses to work without blocks of its own"
    );
    // `auto_vacuum` before the first table; exclusive before WAL, so that there is no shared memory.
    db.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -4096;",
    )?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        db.execute_batch(&format!("BEGIN EXCLUSIVE; {TABLES}"))?;
        db.execute("INSERT INTO meta (hash_key) VALUES (?)", [key])?;
        db.execute_batch(&format!("PRAGMA user_version = {VERSION}; COMMIT"))?;
    } else if version != VERSION {
        anyhow::bail!("it has layout {version}, and this bridge knows {VERSION}");
    }
    db.execute_batch(FURTHER_TABLES)?;
    // Takes the lock, and clears the log of a bridge that was killed.
    db.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    checkpoint(&db)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// How many empty pages are given back to the disk at once.
const PAGES_GIVEN_BACK: usize = 256;

/// Moves the log into the file and empties it: what was deleted stands in neither then.
pub fn checkpoint(db: &Connection) -> Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    // Each step frees one page, so all of them are to be taken.
    let mut freeing =
        db.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})"))?;
    let mut pages = freeing.query([])?;
    while pages.next()?.is_some() {}
    Ok(())
}

/// The key of the hashes.
pub struct Key([u8; 16]);

/// The key in this journal.
pub fn key(db: &Connection) -> Result<Key> {
    let key = db
        .query_row("SELECT hash_key FROM meta", [], |row| row.get(0))
        .optional()?;
    Ok(Key(key.unwrap_or_default()))
}

impl Key {
    /// A hash that nobody can make without the key.
    pub fn hash(&self, value: &impl Hash) -> Vec<u8> {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        value.hash(&mut hasher);
        hasher.finish128().as_bytes().to_vec()
    }
}
