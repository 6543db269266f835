//! `/api/privacy`: what runs, what each process may do and has opened, what is kept; and the end of what is kept.
//!
//! In: this process's seal and what the kernel says; reports of the others, which come over the Unix socket. Out: all
//! of them as JSON. Must never tell more than numbers and fixed words.

mod order;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Json;
use cloister_sandbox::observed::Family;
use cloister_sandbox::report::{Kept, Name, Report, Stored};
use cloister_sandbox::{Namespace, Seal};
use serde_json::{Value, json};

use self::order::Order;
use super::api_error::ApiError;
use super::ask::body;
use super::fields::parsed;
use super::models::Models;
use super::peer::{Peer, Users};
use crate::access::Access;

/// A process that has said nothing for so long is not there.
const SILENT: Duration = Duration::from_secs(20);

/// What is known of the box's processes.
pub struct Ledger {
    models: Arc<Models>,
    seal: Seal,
    family: Family,
    reporters: Reporters,
    /// Where prefixes are kept.
    prefixes: PathBuf,
    /// The hashes of who was let in.
    access: (Access, PathBuf),
    others: Mutex<BTreeMap<Name, (Instant, Report)>>,
    order: Mutex<Order>,
}

/// Whose word is taken for the bridge's and the panel's.
pub struct Reporters {
    pub bridge: Users,
    pub panel: Users,
}

impl Ledger {
    /// Of this process, sealed so, among these, with its state in this folder.
    pub fn new(
        models: Arc<Models>,
        seal: Seal,
        family: Family,
        reporters: Reporters,
        state: &Path,
    ) -> Self {
        let ledger = Self {
            models,
            seal,
            family,
            reporters,
            prefixes: state.join("prefixes"),
            access: (Access::of(state), state.join("access.json")),
            others: Mutex::default(),
            order: Mutex::new(Order::of(state)),
        };
        if ledger.order().own {
            ledger.erase_stored();
        }
        ledger
    }

    fn own(&self) -> Report {
        let files: Vec<u64> = self.stored().map(|(_, bytes)| bytes).collect();
        let templates = Stored {
            what: Kept::Templates,
            rows: files.len() as u64,
            bytes: files.iter().sum(),
        };
        let (access, file) = &self.access;
        let access = Stored {
            what: Kept::Access,
            rows: access.keys().map_or(0, |keys| keys.len() as u64),
            bytes: file.metadata().map_or(0, |file| file.len()),
        };
        let stored = vec![templates, access];
        Report::now(Name::Serve, &self.seal, self.opened(), stored)
    }

    /// The connections that were opened, as the kernel counts them in this process's own network; in one that it
    /// shares, only the filter of system calls can say: none.
    fn opened(&self) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap_or_default();
        match self.seal.namespace {
            Namespace::Empty | Namespace::EmptyWithOneUser => active_opens(&text),
            Namespace::Shared | Namespace::Refused => self.seal.calls.then_some(0),
        }
    }

    /// Who says how many connections a program has opened.
    fn counted_by(&self, report: &Report) -> Option<&'static str> {
        report.outgoing_connections?;
        let own_network = matches!(
            self.seal.namespace,
            Namespace::Empty | Namespace::EmptyWithOneUser
        );
        Some(match report.name {
            Name::Serve if own_network => "kernel",
            Name::Bridge => "itself",
            Name::Serve | Name::Panel => "filter",
        })
    }

    fn stored(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        let entries = self.prefixes.read_dir().into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
    }

    /// Erases what this process keeps, and has the bridge erase its journal when it reports. Gives how many files
    /// could not be. Whatever runs is ended first, so that nothing of it comes to be kept afterwards.
    pub async fn erase_all(&self) -> u64 {
        let left = self.order_all();
        left + self.forget_all().await
    }

    /// Orders all of that; from here on neither a restart nor a power cut takes it back.
    pub fn order_all(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let number = now.map_or(1, |now| now.as_millis() as u64);
        self.order().change(|order| {
            // Without a bridge here its journal is erased when it comes.
            (order.bridge, order.own) = (Some(number), true);
        })
    }

    /// What of it is this process's.
    pub async fn forget_all(&self) -> u64 {
        self.models.forget().await;
        let left = self.erase_stored();
        tracing::info!("what was kept is erased, as the owner wished");
        left
    }

    /// What the prefix store keeps, and what of an order that was.
    pub fn erase_stored(&self) -> u64 {
        let mut left = 0;
        for (file, _) in self.stored() {
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::error!("{}: cannot be erased: {error}", file.display());
                left += 1;
            }
        }
        // A folder that is not there holds nothing.
        let synced = File::open(&self.prefixes).map_or(Ok(()), |folder| folder.sync_all());
        if left == 0 && synced.is_ok() {
            left += self.order().change(|order| order.own = false);
        }
        left
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<Name, (Instant, Report)>> {
        let mut others = self.others.lock().expect("no panic while held");
        others.retain(|_, (heard, _)| heard.elapsed() < SILENT);
        others
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().expect("no panic while held")
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
    let opened: Option<u64> = processes
        .iter()
        .map(|report| report.outgoing_connections)
        .sum();
    let stored: Vec<Stored> = processes
        .iter()
        .flat_map(|report| report.stored.clone())
        .collect();
    let with_source = |report: &Report| {
        let mut told = json!(report);
        told["counted_by"] = json!(ledger.counted_by(report));
        told
    };
    Json(json!({
        "processes": processes.iter().map(with_source).collect::<Vec<_>>(),
        "observed": ledger.family.now(),
        "outgoing_connections": opened,
        "stored": stored,
        "erasing": ledger.order().is_open(),
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
    let users = match report.name {
        Name::Serve => return Err(ApiError::field("name", "serve reports by itself")),
        Name::Bridge => &ledger.reporters.bridge,
        Name::Panel => &ledger.reporters.panel,
    };
    if !users.speak(&peer, &headers) {
        let message = "this user's programs are not those of the box";
        return Err(ApiError::forbidden(message));
    }
    let mut order = ledger.order();
    if order.bridge.is_some() && report.name == Name::Bridge && report.erased == order.bridge {
        order.change(|order| order.bridge = None);
    }
    let erase = order.bridge;
    drop(order);
    ledger
        .others()
        .insert(report.name, (Instant::now(), report));
    let private = ledger.models.private();
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
    // To its end, also if who asked goes away meanwhile.
    let erased = tokio::spawn(async move { ledger.erase_all().await });
    let left = erased.await.expect("erasing does not panic");
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
