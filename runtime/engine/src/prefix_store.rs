//! Prefixes on disk: what the model made of the templates that the owner marked, so that no restart computes
//! them again.
//!
//! In: tokens with the state of their sequence. Out: the state of the longest beginning of a prompt. A file
//! is used only when it was made by the same build from the same model with the same context, and is whole;
//! others are left alone, with a line in the log, until they are the least recently used. What is kept is
//! decided by who calls: must never be given a user's turn.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::llama::Token;

/// A stored prefix that saves fewer tokens than this is not worth reading.
pub const WORTH_READING: usize = 32;

/// Where prefixes are kept.
#[derive(Clone, Debug)]
pub struct PrefixFolder {
    /// The folder; made when something is stored.
    pub path: PathBuf,
    /// Bytes that all its files may have together.
    pub max_bytes: u64,
}

/// What a stored state depends on beside its tokens: 32 bytes that differ where anything of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Of these facts, in this order.
    pub fn of(facts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for fact in facts {
            hash.update((fact.len() as u64).to_le_bytes());
            hash.update(fact);
        }
        Self(hash.finalize().into())
    }
}

// A file: `MAGIC`, the identity, the numbers of tokens (u32) and of state bytes (u64), the tokens (i32 each), the
// state, and the SHA-256 of all that. Little-endian.
const MAGIC: &[u8; 16] = b"cloister-prefix1";
const HEADER: usize = 16 + 32 + 4 + 8;
const CHECKSUM: usize = 32;

const EXTENSION: &str = "prefix";
const UNFINISHED: &str = "prefix-unfinished";
/// What is unfinished for so long was left by a process that died.
const GIVEN_UP: Duration = Duration::from_secs(60 * 60);

/// The prefixes in one folder that one engine can use.
pub struct PrefixStore {
    folder: PrefixFolder,
    identity: Identity,
    known: Mutex<Known>,
    /// Held by who writes, apart from `known`: who looks for a prefix does not wait for the disk.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Known {
    stored: Vec<Stored>,
    /// When the folder was changed last, as of the last look.
    changed: Option<SystemTime>,
}

/// A prefix that is in the folder.
#[derive(Clone, Debug)]
pub struct Stored {
    path: PathBuf,
    /// Its tokens.
    pub tokens: Arc<[Token]>,
}

impl PrefixStore {
    /// The prefixes in `folder` that were made under `identity`.
    pub fn new(folder: PrefixFolder, identity: Identity) -> Self {
        let store = Self {
            folder,
            identity,
            known: Mutex::default(),
            writing: Mutex::default(),
        };
        store.look(&mut store.known());
        store
    }

    /// The prefix that shares the longest beginning with `prompt`, and how many tokens that has.
    pub fn longest(&self, prompt: &[Token]) -> Option<(usize, Stored)> {
        let mut known = self.known();
        self.look(&mut known);
        let shared = |stored: &Stored| {
            let pairs = stored.tokens.iter().zip(prompt);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let best = known.stored.iter().map(|stored| (shared(stored), stored));
        // Of equals the shortest: it is read fastest.
        let best = best.max_by_key(|(n, stored)| (*n, usize::MAX - stored.tokens.len()))?;
        (best.0 > 0).then(|| (best.0, best.1.clone()))
    }

    /// Whether exactly these tokens are stored.
    pub fn has(&self, tokens: &[Token]) -> bool {
        let longest = self.longest(tokens);
        longest.is_some_and(|(_, stored)| *stored.tokens == *tokens)
    }

    /// Reads the state of a prefix, which counts as used now. None, and not offered again, where the file is not
    /// what it was.
    pub fn load(&self, stored: &Stored) -> Option<Vec<u8>> {
        match self.read(stored) {
            Ok(state) => Some(state),
            Err(reason) => {
                tracing::warn!("{}: not used: {reason}", stored.path.display());
                self.forget(stored);
                None
            }
        }
    }

    /// Offers a prefix no more.
    pub fn forget(&self, stored: &Stored) {
        self.known().stored.retain(|s| s.path != stored.path);
    }

    fn read(&self, stored: &Stored) -> Result<Vec<u8>, String> {
        let unreadable = |error: io::Error| error.to_string();
        let file = File::open(&stored.path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(unreadable)?;
        let head = Head::parse(&bytes)?;
        if head.identity != self.identity {
            return Err("it belongs to another model or other settings".to_owned());
        }
        let state = HEADER + head.n_tokens * size_of::<Token>();
        let end = state as u64 + head.n_state;
        if bytes.len() as u64 != end + CHECKSUM as u64 {
            return Err("it is not whole".to_owned());
        }
        let (body, sum) = bytes.split_at(end as usize);
        if Sha256::digest(body).as_slice() != sum {
            return Err("it is damaged: its checksum is another one".to_owned());
        }
        if parse_tokens(&body[HEADER..state]) != *stored.tokens {
            return Err("it holds other tokens than before".to_owned());
        }
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!("{}: {error}", stored.path.display());
        }
        bytes.truncate(end as usize);
        bytes.drain(..state);
        Ok(bytes)
    }

    /// Stores the `state` that the model has after `tokens`: whole and synced under its name, or not at all.
    ///
    /// # Errors
    /// A line for the user: it does not fit, or the disk fails.
    pub fn save(&self, tokens: &[Token], state: &[u8]) -> Result<(), String> {
        let _turn = self.writing.lock().expect("no panic while held");
        let bytes = HEADER + size_of_val(tokens) + state.len() + CHECKSUM;
        self.fits(bytes)?;
        let name = Identity::of(&[&format!("{:?} {tokens:?}", self.identity)]);
        let name: String = name.0[..16].iter().map(|b| format!("{b:02x}")).collect();
        let path = self.folder.path.join(name).with_extension(EXTENSION);
        self.write(&path, tokens, state, bytes as u64)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.look(&mut self.known());
        Ok(())
    }

    /// Fails where a prefix of so many bytes has no room, even alone.
    pub fn fits(&self, bytes: usize) -> Result<(), String> {
        let most = self.folder.max_bytes;
        if bytes as u64 <= most {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(format!(
            "it has {} MiB, and there is room for {} on disk; raise --cache-disk",
            mib(bytes as u64),
            mib(most)
        ))
    }

    fn write(&self, path: &Path, tokens: &[Token], state: &[u8], bytes: u64) -> io::Result<()> {
        let folder = &self.folder.path;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        self.make_room(path, bytes)?;
        let unfinished = path.with_extension(UNFINISHED);
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished)?;
        let mut head = Vec::with_capacity(HEADER + size_of_val(tokens));
        head.extend(MAGIC);
        head.extend(self.identity.0);
        head.extend((tokens.len() as u32).to_le_bytes());
        head.extend((state.len() as u64).to_le_bytes());
        head.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        let sum = Sha256::new().chain_update(&head).chain_update(state);
        let written = (|| {
            file.write_all(&head)?;
            file.write_all(state)?;
            file.write_all(&sum.finalize())?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            File::open(folder)?.sync_all()
        })();
        if written.is_err() {
            // It is of no use to anybody.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Removes what was used least lately, of whatever model, until `bytes` more have room. `path` is replaced.
    fn make_room(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder.path)? {
            let entry = entry?;
            let (file, about) = (entry.path(), entry.metadata()?);
            if about.is_file() && file != path && has_extension(&file, EXTENSION) {
                files.push((about.modified()?, about.len(), file));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, file) in files {
            if total + bytes <= self.folder.max_bytes {
                break;
            }
            fs::remove_file(&file)?;
            tracing::info!("{}: removed to make room", file.display());
            total -= len;
        }
        Ok(())
    }

    /// Looks what is in the folder, if it has changed: another process may have stored something.
    fn look(&self, known: &mut Known) {
        let about = fs::metadata(&self.folder.path);
        let Ok(changed) = about.and_then(|about| about.modified()) else {
            // Nothing was ever stored.
            known.stored.clear();
            return;
        };
        if known.changed == Some(changed) {
            return;
        }
        known.changed = Some(changed);
        let entries = match fs::read_dir(&self.folder.path) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("{}: {error}", self.folder.path.display());
                return;
            }
        };
        let before = std::mem::take(&mut known.stored);
        let mut foreign = 0;
        for path in entries.flatten().map(|entry| entry.path()) {
            if has_extension(&path, UNFINISHED) {
                remove_if_given_up(&path);
            } else if !has_extension(&path, EXTENSION) {
            } else if let Some(stored) = before.iter().find(|stored| stored.path == path) {
                known.stored.push(stored.clone());
            } else {
                match self.identify(&path) {
                    Ok(Some(stored)) => known.stored.push(stored),
                    Ok(None) => foreign += 1,
                    Err(reason) => tracing::warn!("{}: not used: {reason}", path.display()),
                }
            }
        }
        if foreign > 0 && before.is_empty() {
            tracing::info!(
                "{}: {foreign} stored prefixes are not used: they belong to another model or other settings",
                self.folder.path.display()
            );
        }
    }

    /// Reads the beginning of a file. None when it is somebody else's.
    fn identify(&self, path: &Path) -> Result<Option<Stored>, String> {
        let unreadable = |error: io::Error| error.to_string();
        let mut file = File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        let mut take = |n: u64, bytes: &mut Vec<u8>| {
            let taken = (&mut file).take(n).read_to_end(bytes);
            taken.map_err(unreadable).map(|_| ())
        };
        take(HEADER as u64, &mut bytes)?;
        let head = Head::parse(&bytes)?;
        if head.identity != self.identity {
            return Ok(None);
        }
        let tokens = head.n_tokens as u64 * size_of::<Token>() as u64;
        let rest = len.checked_sub((HEADER + CHECKSUM) as u64 + tokens);
        if rest != Some(head.n_state) {
            return Err("it is not whole".to_owned());
        }
        bytes.clear();
        take(tokens, &mut bytes)?;
        Ok(Some(Stored {
            path: path.to_owned(),
            tokens: parse_tokens(&bytes).into(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while held")
    }
}

/// What a file begins with.
struct Head {
    identity: Identity,
    n_tokens: usize,
    n_state: u64,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let other = || "it is no stored prefix of this version".to_owned();
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(other)?;
        let (identity, rest) = rest.split_first_chunk().ok_or_else(other)?;
        let (n_tokens, rest) = rest.split_first_chunk().ok_or_else(other)?;
        let (n_state, _) = rest.split_first_chunk().ok_or_else(other)?;
        Ok(Self {
            identity: Identity(*identity),
            n_tokens: u32::from_le_bytes(*n_tokens) as usize,
            n_state: u64::from_le_bytes(*n_state),
        })
    }
}

fn parse_tokens(bytes: &[u8]) -> Vec<Token> {
    let (tokens, _) = bytes.as_chunks();
    tokens.iter().map(|b| Token::from_le_bytes(*b)).collect()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

fn remove_if_given_up(path: &Path) {
    let age = fs::metadata(path).and_then(|about| about.modified());
    let age = age.ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age > GIVEN_UP) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests;
