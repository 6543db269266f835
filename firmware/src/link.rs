//! The panel's side of the HTTP API: hears what `serve` says of itself, and says what is to hold.
//!
//! In: `/api/events`; reports that change. Out: the last word of `serve`, none while it is not there; `PUT /api/panel`,
//! `POST /api/panel/stop`; answers to what the display is to show, and whether the engine computes.
//! Must never take an old word for a new one: a `serve` that is silent for too long is not there.

mod heard;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use cloister_client::{Error, Method, Socket};
use cloister_program::panel::PanelReport;
use cloister_sandbox::Seal;
use cloister_sandbox::report::{Name, Report};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

pub use heard::{Door, Heard};

/// Events come at least as comments, every 15 s.
const SILENT: Duration = Duration::from_secs(40);
/// What is told it takes at once: a `serve` that has not by then hangs, and one that refuses it for so long is none that this
/// panel can speak for.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// Before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// A request over a Unix socket takes milliseconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Figures change all the time; they are told so often.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
/// Told again even if nothing changes: `serve` forgets a panel that says nothing for 30 s.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// Whether the engine still computes is tried so often; that takes one token.
const TESTS_EVERY: Duration = Duration::from_secs(60);
/// A slice of a prompt may be before it.
const COMPUTES_WITHIN: Duration = Duration::from_secs(120);

/// The way to `serve`.
pub struct Link {
    socket: Socket,
    /// Of this panel.
    number: u64,
    takes: watch::Sender<Takes>,
}

/// How a `serve` that is there takes what it is told. Only its answer to that changes it: events may well come from one that
/// hangs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Takes {
    /// It obeys, or has not been asked yet.
    #[default]
    All,
    /// It has answered otherwise since then.
    Refuses(Instant),
    /// It has not answered.
    Nothing,
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

    /// Whether a `serve` that is there refuses what it is told, and has for a while.
    pub fn is_refused(&self) -> bool {
        matches!(*self.takes.borrow(), Takes::Refuses(since) if since.elapsed() >= HANGS_AFTER)
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

    /// Says what is to hold, whenever that changes and to each `serve` that is heard anew, until dropped.
    pub async fn tell(
        &self,
        mut wishes: watch::Receiver<PanelReport>,
        mut heard: watch::Receiver<Option<Heard>>,
    ) {
        let mut said: Option<(PanelReport, Instant)> = None;
        loop {
            let wish = wishes.borrow_and_update().clone();
            let due = match &said {
                None => Instant::now(),
                Some((before, at)) if is_urgent(before, &wish) => (*at).min(Instant::now()),
                Some((before, at)) if *before != wish => *at + FIGURES_EVERY,
                Some((_, at)) => *at + AT_LEAST_EVERY,
            };
            tokio::select! {
                biased;
                () = sleep_until(due) => {
                    match self.say(wish.clone()).await {
                        Ok(_) => said = Some((wish, Instant::now())),
                        // One that comes back hears all of it again.
                        Err(_) => {
                            said = None;
                            sleep(AGAIN).await;
                        }
                    }
                }
                changed = wishes.changed() => if changed.is_err() { return },
                // The next one knows nothing of what this one was told.
                Ok(()) = heard.changed() => if heard.borrow_and_update().is_none() { said = None },
            }
        }
    }

    /// Says for the last time how the board is.
    pub async fn leave(&self, last: PanelReport) {
        // Who is not there misses nothing.
        let _ = self.say(last).await;
    }

    async fn say(&self, wish: PanelReport) -> Result<Value, Error> {
        let report = PanelReport {
            panel: self.number,
            ..wish
        };
        let body = serde_json::to_string(&report).expect("a report serializes");
        let asked = self.ask_within(SILENT, Method::PUT, "/api/panel", body);
        let answer = timeout(HANGS_AFTER, asked).await;
        let before = *self.takes.borrow();
        let takes = match (&answer, before) {
            (Err(_), _) => Takes::Nothing,
            (Ok(Ok(_)), _) => Takes::All,
            (Ok(Err(Error::Unreadable(_))), Takes::Refuses(since)) => Takes::Refuses(since),
            (Ok(Err(error @ Error::Unreadable(_))), _) => {
                warn!("serve does not do as the panel says: {error}");
                Takes::Refuses(Instant::now())
            }
            (Ok(Err(_)), before) => before,
        };
        self.takes
            .send_if_modified(|of| std::mem::replace(of, takes) != takes);
        answer.unwrap_or(Err(Error::Closed))
    }

    /// Has every running answer stopped.
    pub async fn stop_answers(&self) {
        if let Err(error) = self
            .ask(Method::POST, "/api/panel/stop", String::new())
            .await
        {
            warn!("the answer cannot be stopped: {error}");
        }
    }

    /// Counts the tests that the engine passes, until dropped.
    pub async fn test(&self, passed: watch::Sender<u64>) {
        loop {
            let asked = self.ask_within(
                COMPUTES_WITHIN,
                Method::POST,
                "/api/panel/test",
                String::new(),
            );
            if matches!(asked.await, Ok(answer) if answer["computes"] == true) {
                passed.send_modify(|passed| *passed += 1);
            }
            sleep(TESTS_EVERY).await;
        }
    }

    /// How one gets in, if `serve` says it.
    pub async fn door(&self) -> Option<Door> {
        let asked = self.ask(Method::GET, "/api/panel/door", String::new());
        let answer = asked
            .await
            .inspect_err(|error| warn!("the address is not known: {error}"));
        serde_json::from_value(answer.ok()?).ok()
    }

    /// A new pairing code, if `serve` makes one.
    pub async fn new_code(&self) -> Option<String> {
        let asked = self.ask(Method::POST, "/api/panel/pair", String::new());
        let answer = asked
            .await
            .inspect_err(|error| warn!("there is no pairing code: {error}"));
        answer.ok()?["code"].as_str().map(str::to_owned)
    }

    /// Tells for the page what this process may do, until dropped.
    pub async fn report(&self, seal: Seal) {
        loop {
            let report = Report::now(Name::Panel, &seal, seal.calls.then_some(0), Vec::new());
            let body = serde_json::to_string(&report).expect("a report serializes");
            // One that is not there hears the next.
            let _ = self.ask(Method::POST, "/api/privacy/report", body).await;
            sleep(AT_LEAST_EVERY).await;
        }
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

/// Whether it cannot wait for the figures.
fn is_urgent(before: &PanelReport, wish: &PanelReport) -> bool {
    (
        before.private,
        before.throttle,
        &before.board.light,
        &before.board.problems,
    ) != (
        wish.private,
        wish.throttle,
        &wish.board.light,
        &wish.board.problems,
    )
}
