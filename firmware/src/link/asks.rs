//! What `serve` is asked for, besides: to stop, to compute, how one gets in; and the report of this process's seal.

use std::time::Duration;

use cloister_client::Method;
use cloister_sandbox::Seal;
use cloister_sandbox::report::{Name, Report};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use super::tells::AT_LEAST_EVERY;
use super::{Door, Link};

/// Whether the engine still computes is tried so often; that takes one token.
const TESTS_EVERY: Duration = Duration::from_secs(60);
/// A slice of a prompt may be before it.
const COMPUTES_WITHIN: Duration = Duration::from_secs(120);

impl Link {
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
}
