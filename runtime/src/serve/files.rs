//! `PUT /api/box/files/{name}`: the owner's files for the box: a model, an update, settings. `DELETE` is in [`remove`].
//!
//! In: the file as it comes, from who has the scope admin. Out: the same file in `inbox` of the state folder, whole or not
//! at all; what becomes of it is for the system, which tells by [`super::notices`]. A box without that folder takes none.
//! Must never look into a file, nor write where the services would have no room left.

pub mod remove;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path as Named, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::api_error::ApiError;
use super::gate::body::next;
use super::gate::unknown_key;
use super::peer::Peer;
use crate::access::Access;

/// The path, as the router has it. Its bodies are read here, not by the gate: a model is larger than memory.
pub const PATH: &str = "/api/box/files/{name}";

/// The longest time in which nothing of a file arrives.
const PAUSE: Duration = Duration::from_secs(30);
/// The least that arrives of it, in bytes, in the longest time for that: only one file is on its way at a time.
const LEAST: usize = 1 << 20;
const LEAST_WITHIN: Duration = Duration::from_secs(60);
/// What is left for the services, in bytes.
const LEFT: u64 = 64 << 20;
/// The file of settings, which is small.
const SETTINGS: &str = "cloister.txt";
const MOST_SETTINGS: u64 = 64 << 10;

/// Where files go.
pub struct Files {
    /// Whole ones, for the system.
    inbox: PathBuf,
    /// The one that is on its way.
    arriving: Mutex<Arriving>,
    /// Who may bring them.
    access: Access,
}

impl Files {
    /// In this state folder, from which goes what was on its way when the power went.
    pub fn of(state: &Path) -> Self {
        let arriving = Arriving(state.join("arriving"));
        arriving.remove();
        Self {
            inbox: state.join("inbox"),
            arriving: Mutex::new(arriving),
            access: Access::of(state),
        }
    }

    /// The folder for the system, if there is one and `peer` may leave something in it. Of the network only who has the
    /// scope for it comes so far; local programs have nothing to bring.
    fn inbox_for(&self, peer: &Peer) -> Result<&Path, ApiError> {
        if matches!(peer, Peer::LocalUser(user) if *user != Some(0)) {
            return Err(ApiError::forbidden(
                "only the owner may bring or remove files",
            ));
        }
        match self.inbox.is_dir() {
            true => Ok(&self.inbox),
            false => Err(ApiError::not_found(PATH)
                .with_hint(": this box takes no files: put models into its folder yourself")),
        }
    }
}

/// Where a file lies until it is whole.
struct Arriving(PathBuf);

impl Arriving {
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what has arrived when it is dropped, as also when the request is: what has become whole is elsewhere by then.
struct Cleared<'a>(&'a Arriving);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// Keeps a file under its name; what is refused or breaks off leaves nothing.
pub async fn put(
    State(files): State<Arc<Files>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(name): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let inbox = files.inbox_for(&peer)?;
    check_name(&name)?;
    let bytes = headers.get(header::CONTENT_LENGTH);
    let bytes = bytes.and_then(|bytes| bytes.to_str().ok()?.parse().ok());
    let bytes: u64 =
        bytes.ok_or_else(|| ApiError::invalid("the header Content-Length is missing"))?;
    if name == SETTINGS && bytes > MOST_SETTINGS {
        return Err(ApiError::body_too_large(MOST_SETTINGS as usize));
    }
    let Ok(arriving) = files.arriving.try_lock() else {
        let message = "another file is on its way: try again when it is there";
        return Err(ApiError::invalid(message));
    };
    let cleared = Cleared(&arriving);
    let whole = arrive(&arriving.0, inbox, bytes, body).await?;
    off_the_runtime(move || whole.sync_all())
        .await
        .map_err(failed)?;
    // The disk may have taken its time, and the owner thought better of it.
    if let Some(key) = peer.key()
        && !files.access.knows(key).unwrap_or(false)
    {
        return Err(unknown_key());
    }
    let moved = std::fs::rename(&arriving.0, inbox.join(&name));
    moved.context("a file cannot be moved").map_err(failed)?;
    drop(cleared);
    tracing::info!("the owner brought a file");
    let kept = Json(json!({"name": name, "bytes": bytes}));
    Ok((StatusCode::ACCEPTED, kept).into_response())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let kind = name == SETTINGS || name.ends_with(".gguf") || name.ends_with(".raucb");
    match kind && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain) {
        true => Ok(()),
        false => Err(ApiError::field(
            "name",
            "a file is a model (.gguf), an update (.raucb) or cloister.txt; its name has letters, digits, '.', '_' and '-'",
        )),
    }
}

fn failed(error: anyhow::Error) -> ApiError {
    tracing::error!("{error:#}");
    ApiError::failed("the box cannot keep the file; see its log")
}

/// Writes what comes, of which there are to be so many bytes.
async fn arrive(arriving: &Path, inbox: &Path, bytes: u64, body: Body) -> Result<File, ApiError> {
    let free = rustix::fs::statvfs(inbox).map(|disk| disk.f_bavail * disk.f_frsize);
    let free = free.context("what is free is not known").map_err(failed)?;
    if free < bytes.saturating_add(LEFT) {
        return Err(ApiError::too_large(format!(
            "the box has no room for it: {} MiB are free, of which {} stay so; remove a model on the page, under This box",
            free >> 20,
            LEFT >> 20
        )));
    }
    let create = || File::create(arriving).context("a file cannot be made");
    let mut file = create().map_err(failed)?;
    let mut chunks = body.into_data_stream();
    let mut left = bytes;
    let (mut waited, mut arrived) = (Duration::ZERO, 0);
    loop {
        // For who sends it: the disk may be as slow as it is.
        let within = LEAST_WITHIN.saturating_sub(waited).min(PAUSE);
        let asked = Instant::now();
        let next = timeout(within, next(&mut chunks)).await;
        waited += asked.elapsed();
        let chunk = match next.map_err(|_| ApiError::too_slow())? {
            None => break,
            Some(chunk) => chunk.map_err(|_| ApiError::invalid("the file did not arrive"))?,
        };
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| ApiError::invalid("the file is longer than its Content-Length"))?;
        arrived += chunk.len();
        file = off_the_runtime(move || file.write_all(&chunk).map(|()| file))
            .await
            .map_err(failed)?;
        if arrived >= LEAST {
            (waited, arrived) = (Duration::ZERO, 0);
        }
    }
    match left {
        0 => Ok(file),
        _ => Err(ApiError::invalid("the file did not arrive whole")),
    }
}

/// A disk may be slow; the threads that carry tokens should not wait for it.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(work).await?;
    done.context("a file cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file a little longer than the least, in pieces with this long before each: whether it came, and how long that took.
    async fn brought(piece: usize, pause: Duration) -> (bool, Duration) {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let pieces = LEAST / piece + 2;
        let body = Body::from_stream(async_stream::stream! {
            for _ in 0..pieces {
                tokio::time::sleep(pause).await;
                yield Ok::<_, std::io::Error>(vec![b'x'; piece]);
            }
        });
        let bytes = (pieces * piece) as u64;
        let path = folder.path().join("arriving");
        let came = arrive(&path, folder.path(), bytes, body).await;
        (came.is_ok(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_comes_at_a_least_rate_or_not_at_all() {
        let (came, _) = brought(LEAST / 2, Duration::from_secs(29)).await;
        assert!(came);
        let (came, took) = brought(1, Duration::from_secs(29)).await;
        assert!(!came && took <= LEAST_WITHIN, "{took:?}");
        let (came, _) = brought(LEAST, PAUSE + Duration::from_secs(1)).await;
        assert!(!came);
    }

    #[test]
    fn what_was_on_its_way_when_the_power_went_is_gone_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        let arriving = state.path().join("arriving");
        std::fs::write(&arriving, "half").unwrap();
        Files::of(state.path());
        assert!(!arriving.exists());
    }
}
