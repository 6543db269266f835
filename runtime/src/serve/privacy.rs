//! `/api/privacy`: what runs, what each process may do and has opened, what is kept; and the end of what is kept.
//!
//! In: this process's seal and what the kernel says; reports of the others, which come over the Unix socket. Out: all
//! of them as JSON. Must never tell more than numbers and fixed words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Json;
use cloister_engine::Closed;
use cloister_sandbox::report::{Kept, Name, Report, Stored};
use cloister_sandbox::{Namespace, Seal};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::ask::body;
use super::fields::parsed;
use super::models::Models;
use super::peer::Peer;

/// A process that has said nothing for so long is not there.
const SILENT: Duration = Duration::from_secs(20);

/// What is known of the box's processes.
pub struct Ledger {
    models: Arc<Models>,
    seal: Seal,
    /// Where prefixes are kept.
    prefixes: PathBuf,
    others: Mutex<BTreeMap<Name, (Instant, Report)>>,
    /// The latest order to erase, until the bridge has carried it out.
    erase: Mutex<Option<u64>>,
}

impl Ledger {
    /// Of this process, sealed so, with its state in this folder.
    pub fn new(models: Arc<Models>, seal: Seal, state: &Path) -> Self {
        Self {
            models,
            seal,
            prefixes: state.join("prefixes"),
            others: Mutex::default(),
            erase: Mutex::default(),
        }
    }

    fn own(&self) -> Report {
        let files: Vec<u64> = self.stored().map(|(_, bytes)| bytes).collect();
        let stored = Stored {
            what: Kept::Templates,
            rows: files.len() as u64,
            bytes: files.iter().sum(),
        };
        Report::now(Name::Serve, &self.seal, self.opened(), vec![stored])
    }

    /// The connections that were opened, as the kernel counts them in this process's own network; in one that it
    /// shares, only the filter of system calls can say: none.
    fn opened(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap_or_default();
        match self.seal.namespace {
            Namespace::Empty | Namespace::EmptyWithOneUser => active_opens(&text).unwrap_or(0),
            Namespace::Shared | Namespace::Refused => 0,
        }
    }

    fn stored(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        let entries = self.prefixes.read_dir().into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
    }

    /// Erases what this process keeps, and has the bridge erase its journal when it reports. Gives how many files
    /// could not be.
    pub async fn erase_all(&self) -> Result<u64, ApiError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // Without a bridge here its journal is erased when it comes.
        *self.pending() = Some(now.map_or(1, |now| now.as_millis() as u64));
        self.models.rest_all().await?;
        let mut left = 0;
        for (file, _) in self.stored() {
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::error!("{}: cannot be erased: {error}", file.display());
                left += 1;
            }
        }
        tracing::info!("what was kept is erased, as the owner wished");
        Ok(left)
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<Name, (Instant, Report)>> {
        let mut others = self.others.lock().expect("no panic while held");
        others.retain(|_, (heard, _)| heard.elapsed() < SILENT);
        others
    }

    fn pending(&self) -> MutexGuard<'_, Option<u64>> {
        self.erase.lock().expect("no panic while held")
    }
}

/// The column `ActiveOpens` of the two lines `Tcp:`.
fn active_opens(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let at = lines
        .next()?
        .split_whitespace()
        .position(|name| name == "ActiveOpens")?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// `GET /api/privacy`.
pub async fn show(State(ledger): State<Arc<Ledger>>) -> Json<Value> {
    let mut processes = vec![ledger.own()];
    processes.extend(ledger.others().values().map(|(_, report)| report.clone()));
    let opened: u64 = processes
        .iter()
        .map(|report| report.outgoing_connections)
        .sum();
    let stored: Vec<Stored> = processes
        .iter()
        .flat_map(|report| report.stored.clone())
        .collect();
    Json(json!({
        "processes": processes,
        "outgoing_connections": opened,
        "stored": stored,
        "erasing": ledger.pending().is_some(),
    }))
}

/// `POST /api/privacy/report`: a local process tells about itself, and hears whether to erase what it keeps.
pub async fn report(
    State(ledger): State<Arc<Ledger>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    if !matches!(peer, Peer::LocalUser(_)) {
        return Err(ApiError::invalid(
            "only the box's own programs report, over its Unix socket",
        ));
    }
    let report: Report = parsed(&body(&headers, bytes)?, "this is no report")?;
    if report.name == Name::Serve {
        return Err(ApiError::field("name", "serve reports by itself"));
    }
    let mut pending = ledger.pending();
    if pending.is_some() && report.erased == *pending {
        *pending = None;
    }
    let erase = *pending;
    drop(pending);
    ledger
        .others()
        .insert(report.name, (Instant::now(), report));
    let private = ledger.models.restraint().closed() == Some(Closed::Private);
    Ok(Json(json!({"erase": erase, "private": private})))
}

/// `POST /api/privacy/erase`: stored templates, the journal, and, with the model, what its memory holds of prompts.
pub async fn erase(
    State(ledger): State<Arc<Ledger>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    // Of the network only who has the scope for it comes so far; a local program that asks for others has not.
    if matches!(peer, Peer::LocalUser(_)) && !peer.asker(&headers).owner {
        let message = "only the owner may erase everything";
        return Err(ApiError::forbidden(message));
    }
    // With a content type that no form of another site can send.
    let sent: Value = parsed(&body(&headers, bytes)?, "").unwrap_or_default();
    if sent != json!({"everything": true}) {
        return Err(ApiError::field("everything", "say {\"everything\": true}"));
    }
    let bridge = ledger.others().contains_key(&Name::Bridge);
    let left = ledger.erase_all().await?;
    Ok(Json(json!({"files_left": left, "bridge": bridge})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read_by_its_name() {
        let text =
            "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm ActiveOpens PassiveOpens\nTcp: 1 42 7\n";
        assert_eq!(active_opens(text), Some(42));
        assert_eq!(active_opens("Tcp: A\n"), None);
    }
}
