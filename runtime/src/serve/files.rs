//! `PUT /api/box/files/{name}`: the owner's files for the box: a model, an update, settings.
//!
//! In: the file as it comes, from who has the scope admin. Out: the same file in `inbox` of the state folder, whole or not
//! at all; what becomes of it is for the system, which tells by [`super::notices`]. A box without that folder takes none.
//! Must never look into a file, nor write where the services would have no room left.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path as Named, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use futures_core::Stream;
use serde_json::json;
use tokio::sync::Mutex;

use super::api_error::ApiError;
use super::peer::Peer;

/// The path, as the router has it. Its bodies are read here, not by the gate: a model is larger than memory.
pub const PATH: &str = "/api/box/files/{name}";

/// The longest time in which nothing of a file arrives.
const PAUSE: Duration = Duration::from_secs(30);
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
    arriving: Mutex<PathBuf>,
}

impl Files {
    /// In this state folder.
    pub fn of(state: &Path) -> Self {
        Self {
            inbox: state.join("inbox"),
            arriving: Mutex::new(state.join("arriving")),
        }
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
    // Of the network only who has the scope for it comes so far; local programs have nothing to bring.
    if matches!(peer, Peer::LocalUser(user) if user != Some(0)) {
        return Err(ApiError::forbidden("only the owner may bring files"));
    }
    if !files.inbox.is_dir() {
        return Err(ApiError::not_found(PATH)
            .with_hint(": this box takes no files: put models into its folder yourself"));
    }
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
    let kept = keep(&arriving, &files.inbox, &name, bytes, body).await;
    if kept.is_err() {
        let _ = std::fs::remove_file(&*arriving);
    }
    kept?;
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

async fn keep(
    arriving: &Path,
    inbox: &Path,
    name: &str,
    bytes: u64,
    body: Body,
) -> Result<(), ApiError> {
    let failed = |error: anyhow::Error| {
        tracing::error!("{error:#}");
        ApiError::failed("the box cannot keep the file; see its log")
    };
    let free = rustix::fs::statvfs(inbox).map(|disk| disk.f_bavail * disk.f_frsize);
    let free = free.context("what is free is not known").map_err(failed)?;
    if free < bytes.saturating_add(LEFT) {
        return Err(ApiError::too_large(format!(
            "the box has no room for it: {} MiB are free, of which {} stay so; remove a model",
            free >> 20,
            LEFT >> 20
        )));
    }
    let create = || File::create(arriving).context("a file cannot be made");
    let mut file = create().map_err(failed)?;
    let mut chunks = body.into_data_stream();
    let mut left = bytes;
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut chunks).poll_next(context));
        let next = tokio::time::timeout(PAUSE, next).await;
        let chunk: Bytes = match next.map_err(|_| ApiError::too_slow())? {
            None => break,
            Some(chunk) => chunk.map_err(|_| ApiError::invalid("the file did not arrive"))?,
        };
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| ApiError::invalid("the file is longer than its Content-Length"))?;
        file = off_the_runtime(move || file.write_all(&chunk).map(|()| file))
            .await
            .map_err(failed)?;
    }
    if left > 0 {
        return Err(ApiError::invalid("the file did not arrive whole"));
    }
    let (from, to) = (arriving.to_owned(), inbox.join(name));
    off_the_runtime(move || file.sync_all().and_then(|()| std::fs::rename(from, to)))
        .await
        .map_err(failed)
}

/// A disk may be slow; the threads that carry tokens should not wait for it.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(work).await?;
    done.context("a file cannot be written")
}
