//! Who of the home network may use this box: keys and pairing codes, in `access.json` of the state folder.
//!
//! In: names, scopes, and the secrets that clients show. Out: whom a secret belongs to. The file is read again when it
//! has changed, so that what the owner adds or revokes holds at once. It must never hold a secret itself: keys are
//! 256 random bits, which nobody can guess from a hash of whatever kind, so that one round of SHA-256 is enough; a code
//! of eight digits could be guessed from its hash, and for its few minutes relies on the file being the owner's alone.

pub mod commands;
mod secret;

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use cloister_program::private;
use serde::{Deserialize, Serialize};

use secret::Hash;
pub use secret::password;

/// How long a pairing code is good for.
pub const CODE_LASTS: Duration = Duration::from_secs(10 * 60);

/// The most keys that a box knows; more are a mistake.
const MOST_KEYS: usize = 256;

/// What somebody may do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Ask, and see what the box does.
    Ask,
    /// Whatever the owner may at the machine itself.
    Admin,
}

impl Scope {
    /// Its name, as the owner writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Admin => "admin",
        }
    }
}

/// A client that was let in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// What the owner calls it by.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// Whether it is a program that can wait while a person does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automation: bool,
    /// When it was let in, in seconds since 1970.
    pub added: u64,
    sha256: Hash,
}

/// A pairing code that has not been used yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Code {
    scope: Scope,
    until: u64,
    sha256: Hash,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    #[serde(default)]
    keys: Vec<Key>,
    #[serde(default)]
    codes: Vec<Code>,
}

/// By what a file is known to be the same: number, length, and time of change with nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// The keys and codes of a box.
pub struct Access {
    folder: PathBuf,
    read: Mutex<Option<(Stamp, Book)>>,
}

impl Access {
    /// Those in this state folder.
    pub fn of(state: &Path) -> Self {
        Self {
            folder: state.to_owned(),
            read: Mutex::new(None),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("access.json")
    }

    /// Who shows this key, if anybody does.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn whose(&self, secret: &str) -> anyhow::Result<Option<Key>> {
        let shown = Hash::of(secret);
        // All are looked at, whichever it is.
        let found =
            self.book()?
                .keys
                .into_iter()
                .fold(None, |found, key| match key.sha256 == shown {
                    true => Some(key),
                    false => found,
                });
        Ok(found)
    }

    /// Whether this key still holds.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn knows(&self, key: &Key) -> anyhow::Result<bool> {
        let mut keys = self.book()?.keys.into_iter();
        Ok(keys.any(|known| known.sha256 == key.sha256))
    }

    /// Those who were let in.
    pub fn keys(&self) -> anyhow::Result<Vec<Key>> {
        Ok(self.book()?.keys)
    }

    /// Makes a key. What is given is kept nowhere.
    pub fn add(&self, name: &str, scope: Scope, automation: bool) -> anyhow::Result<String> {
        self.change(|book| {
            if book.keys.iter().any(|key| key.name == name) {
                bail!("there is a key {name:?}; revoke it, or take another name");
            }
            book.add(name, scope, automation)
        })
    }

    /// Lets the client of this name in no more; whether there was one.
    pub fn revoke(&self, name: &str) -> anyhow::Result<bool> {
        self.change(|book| {
            let before = book.keys.len();
            book.keys.retain(|key| key.name != name);
            Ok(book.keys.len() < before)
        })
    }

    /// Makes a pairing code, in place of one that was not used.
    pub fn new_code(&self, scope: Scope) -> anyhow::Result<String> {
        let code = secret::code()?;
        self.change(|book| {
            book.codes = vec![Code {
                scope,
                until: now() + CODE_LASTS.as_secs(),
                sha256: Hash::of(&code),
            }];
            Ok(())
        })?;
        Ok(code)
    }

    /// Uses a code up, and makes a key for who showed it; `None` if no such code is good now.
    pub fn redeem(&self, code: &str, name: &str) -> anyhow::Result<Option<String>> {
        let digits: String = code.chars().filter(char::is_ascii_digit).collect();
        let shown = Hash::of(&digits);
        // Most guesses need no lock.
        if !self.book()?.codes.iter().any(|code| code.sha256 == shown) {
            return Ok(None);
        }
        self.change(|book| {
            let known = |code: &Code| code.sha256 == shown && now() <= code.until;
            let Some(code) = book.codes.iter().find(|code| known(code)).cloned() else {
                return Ok(None);
            };
            book.codes.clear();
            let name = book.free_name(name);
            book.add(&name, code.scope, false).map(Some)
        })
    }

    /// Voids all codes: somebody guesses.
    pub fn void_codes(&self) -> anyhow::Result<()> {
        if self.book()?.codes.is_empty() {
            return Ok(());
        }
        self.change(|book| {
            book.codes.clear();
            Ok(())
        })
    }

    fn book(&self) -> anyhow::Result<Book> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match self.path().metadata() {
            Ok(found) => (found.ino(), found.len(), found.mtime(), found.mtime_nsec()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Book::default());
            }
            Err(error) => return Err(error).context("cannot read access.json"),
        };
        if let Some((known, book)) = &*read
            && *known == stamp
        {
            return Ok(book.clone());
        }
        let book = self.load()?;
        *read = Some((stamp, book.clone()));
        Ok(book)
    }

    fn load(&self) -> anyhow::Result<Book> {
        let path = self.path();
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!("{} is damaged: remove it, and pair again", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Book::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// One change at a time, of whichever process; a crash leaves the file as it was before.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.folder.join("access.lock"));
        let _lock = lock
            .and_then(|lock| lock.lock().map(|()| lock))
            .context("cannot lock access.lock")?;
        let mut book = self.load()?;
        book.codes.retain(|code| now() <= code.until);
        let outcome = change(&mut book)?;
        private::replace(&self.path(), serde_json::to_vec_pretty(&book)?)
            .with_context(|| format!("cannot write {}", self.path().display()))?;
        Ok(outcome)
    }
}

impl Book {
    fn add(&mut self, name: &str, scope: Scope, automation: bool) -> anyhow::Result<String> {
        if self.keys.len() >= MOST_KEYS {
            bail!(
                "{MOST_KEYS} keys are there already: revoke some with `cloister keys revoke NAME`"
            );
        }
        let key = secret::key()?;
        self.keys.push(Key {
            name: name.to_owned(),
            scope,
            automation,
            added: now(),
            sha256: Hash::of(&key),
        });
        Ok(key)
    }

    /// `name` itself, or with the first number that nobody has.
    fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.keys.iter().any(|key| key.name == name);
        let numbered = (2..).map(|n| format!("{name} {n}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names
            .find(|name| !taken(name))
            .expect("there is no last number")
    }
}

/// Whether a name can be shown in a list and typed into a command.
pub fn check_name(name: &str) -> Result<(), String> {
    let fine = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    match fine && name.trim() == name {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is no name: 1 to 64 characters, none of them a control character or a space at an end"
        )),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> (tempfile::TempDir, Access) {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::of(folder.path());
        (folder, access)
    }

    #[test]
    fn a_key_is_known_until_it_is_revoked_and_kept_nowhere() {
        let (folder, access) = access();
        assert!(access.whose("").unwrap().is_none());
        let key = access.add("attic", Scope::Ask, false).unwrap();
        let other = access.add("cellar", Scope::Admin, false).unwrap();
        assert_eq!(access.whose(&key).unwrap().unwrap().scope, Scope::Ask);
        assert_eq!(access.whose(&other).unwrap().unwrap().name, "cellar");
        assert!(access.whose(&key[..key.len() - 1]).unwrap().is_none());
        let kept = std::fs::read_to_string(folder.path().join("access.json")).unwrap();
        assert!(
            !kept.contains(&key) && !kept.contains(&key[9..20]),
            "{kept}"
        );
        assert!(access.add("attic", Scope::Ask, false).is_err());
        // By another process, as `cloister keys` is one.
        assert!(Access::of(folder.path()).revoke("attic").unwrap());
        assert!(access.whose(&key).unwrap().is_none());
        assert!(!access.revoke("attic").unwrap());
    }

    #[test]
    fn a_code_lets_one_in_and_is_used_up() {
        let (_folder, access) = access();
        let code = access.new_code(Scope::Admin).unwrap();
        assert_eq!(access.redeem("0", "phone").unwrap(), None);
        let spaced = format!("{} {}", &code[..4], &code[4..]);
        let key = access.redeem(&spaced, "phone").unwrap().unwrap();
        assert_eq!(access.whose(&key).unwrap().unwrap().scope, Scope::Admin);
        assert_eq!(access.redeem(&code, "phone").unwrap(), None);
        let code = access.new_code(Scope::Ask).unwrap();
        access.redeem(&code, "phone").unwrap().unwrap();
        let names: Vec<String> = access.keys().unwrap().into_iter().map(|k| k.name).collect();
        assert_eq!(names, ["phone", "phone 2"]);
    }

    #[test]
    fn guesses_write_nothing() {
        let (folder, access) = access();
        let code = access.new_code(Scope::Ask).unwrap();
        let written = || {
            let file = folder.path().join("access.json").metadata().unwrap();
            (file.ino(), file.mtime(), file.mtime_nsec())
        };
        let before = written();
        assert_eq!(access.redeem("123456789", "x").unwrap(), None);
        assert_eq!(written(), before);
        access.void_codes().unwrap();
        let void = written();
        assert_ne!(void, before);
        assert_eq!(access.redeem(&code, "x").unwrap(), None);
        access.void_codes().unwrap();
        assert_eq!(written(), void);
    }

    #[test]
    fn a_code_that_is_old_void_or_replaced_lets_nobody_in() {
        let (folder, access) = access();
        let first = access.new_code(Scope::Ask).unwrap();
        let second = access.new_code(Scope::Ask).unwrap();
        assert_eq!(access.redeem(&first, "x").unwrap(), None);
        access.void_codes().unwrap();
        assert_eq!(access.redeem(&second, "x").unwrap(), None);
        let third = access.new_code(Scope::Ask).unwrap();
        let file = folder.path().join("access.json");
        let mut book: Book = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        book.codes[0].until = now() - 1;
        std::fs::write(&file, serde_json::to_vec(&book).unwrap()).unwrap();
        assert_eq!(access.redeem(&third, "x").unwrap(), None);
        assert!(access.keys().unwrap().is_empty());
    }

    #[test]
    fn the_file_is_the_owners_alone_and_a_damaged_one_lets_nobody_in() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, access) = access();
        let key = access.add("attic", Scope::Ask, false).unwrap();
        let file = folder.path().join("access.json");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "{").unwrap();
        assert!(access.whose(&key).is_err());
    }
}
