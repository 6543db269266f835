//! The panel's side of the HTTP API: hears what `serve` says of itself, and says what is to hold.
//!
//! In: `/api/events`; reports that change. Out: the last word of `serve`, none while it is not there; `PUT /api/panel`,
//! `POST /api/panel/stop`; answers to what the display is to show, and whether the engine computes.
//! Must never take an old word for a new one: a `serve` that is silent for too long is not there.

mod asks;
mod heard;
mod tells;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use cloister_client::{Error, Method, Socket};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub use heard::{Door, Heard};
use tells::Takes;

/// Events come at least as comments, every 15 s.
const SILENT: Duration = Duration::from_secs(40);
/// Before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// A request over a Unix socket takes milliseconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The way to `serve`.
pub struct Link {
    socket: Socket,
    /// Of this panel.
    number: u64,
    takes: watch::Sender<Takes>,
}

impl Link {
    /// To the one that listens, or will listen, on `socket`.
    pub fn to(socket: PathBuf) -> Self {
        Self {
            socket: Socket::at(socket),
            number: RandomState::new().build_hasher().finish(),
            takes: watch::Sender::default(),
        }
    }

    /// Hears what `serve` says, until dropped.
    pub async fn listen(&self, heard: watch::Sender<Option<Heard>>) {
        let (mut told, mut hangs) = (false, false);
        loop {
            let left = tokio::select! {
                left = self.hear(&heard) => left,
                () = self.turns(hangs) => {
                    hangs = !hangs;
                    if hangs {
                        warn!("serve is there, and does not answer");
                        heard.send_replace(Some(Heard::hanging()));
                    }
                    // Asked anew it tells how it is once it goes on, whether that has changed or not.
                    continue;
                }
            };
            if left.as_ref().is_err_and(is_gone) {
                // The next one may be well.
                hangs = false;
                self.takes.send_replace(Takes::All);
            }
            if let Err(error) = left
                && !std::mem::replace(&mut told, true)
            {
                warn!("{error}");
            }
            if heard.borrow().is_some() {
                told = false;
            }
            heard.send_replace(hangs.then(Heard::hanging));
            sleep(AGAIN).await;
        }
    }

    /// Comes when it begins to hang, or no longer does.
    async fn turns(&self, hangs: bool) {
        let mut takes = self.takes.subscribe();
        let turned = takes.wait_for(|takes| (*takes == Takes::Nothing) != hangs);
        let _ = turned.await;
    }

    async fn hear(&self, heard: &watch::Sender<Option<Heard>>) -> Result<(), Error> {
        let asked = self.send(Method::GET, "/api/events", String::new());
        let mut events = asked.await?.events();
        while let Ok(next) = timeout(SILENT, events.next()).await {
            let Some(events) = next? else { return Ok(()) };
            // Only the last counts.
            let last = events.iter().rev().find(|event| event.name == "state");
            if let Some(state) = last.and_then(|event| serde_json::from_str(&event.data).ok())
                && *self.takes.borrow() != Takes::Nothing
                && heard.send_replace(Some(state)).is_none_or(|of| of.hangs)
            {
                info!("serve is there");
            }
        }
        Err(Error::Closed)
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Value, Error> {
        self.ask_within(ANSWERS_WITHIN, method, path, body).await
    }

    async fn ask_within(
        &self,
        time: Duration,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Value, Error> {
        let asked = async { self.send(method, path, body).await?.json().await };
        timeout(time, asked).await.unwrap_or(Err(Error::Closed))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<cloister_client::Answer, Error> {
        let answer = self.socket.send(method, path, None, body).await?;
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.json().await.unwrap_or_default();
        let message = said["error"]["message"].as_str().unwrap_or("no reason");
        Err(Error::Unreadable(format!(
            "status {}: {message}",
            status.as_u16()
        )))
    }
}

/// Whether nobody is there; one that has no place for who waits is.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Unreachable { source, .. } if source.kind() != ErrorKind::WouldBlock)
}
