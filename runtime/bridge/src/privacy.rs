//! What the bridge tells about itself to `serve`, whose page shows it; and the order to erase what it keeps.
//!
//! In: the seal, the journal. Out: a report every few seconds; an empty journal, where the owner wants one.
//! Must never tell what is asked or answered, nor to whom.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloister_sandbox::Seal;
use cloister_sandbox::report::{Kept, Name, Report, Stored};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::bridge::Bridge;
use crate::broker;
use crate::client::Engine;
use crate::journal::Journal;

/// How long what is kept may stay until those are told who waited.
const FAREWELL: Duration = Duration::from_secs(5);

/// Between two reports.
const EVERY: Duration = Duration::from_secs(5);

/// Reports until dropped. `state` is the folder of the journal.
pub async fn report(
    engine: Arc<Engine>,
    bridge: Arc<Bridge>,
    journal: Journal,
    seal: Seal,
    state: PathBuf,
) {
    let mut erased = None;
    loop {
        let kept = journal.with(|answers| answers.kept()).await;
        let [asks, answered] = kept.unwrap_or_default();
        let files = state.read_dir().into_iter().flatten().flatten();
        let of_journal = files.filter(|file| {
            file.file_name()
                .to_string_lossy()
                .starts_with("journal.sqlite")
        });
        let bytes = of_journal
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum();
        let stored = |what, rows, bytes| Stored { what, rows, bytes };
        let stored = vec![
            stored(Kept::Journal, asks, bytes),
            // The bytes are counted above.
            stored(Kept::Answered, answered, 0),
        ];
        let mut report = Report::now(
            Name::Bridge,
            &seal,
            Some(broker::connections_opened()),
            stored,
        );
        report.erased = erased;
        // An engine that is not there hears it another time.
        let orders = engine.report(&report).await.ok();
        let order = orders.as_ref().and_then(|orders| orders.erase);
        if let Some(order) = order.filter(|order| erased != Some(*order)) {
            // Who waited hears first why there will be no answer. A broker that is away hears nothing.
            if orders.is_some_and(|orders| orders.private) {
                bridge.heed(true).await;
                bridge.told_everybody(FAREWELL).await;
            }
            match journal.with(|answers| answers.forget_all()).await {
                Ok(()) => {
                    journal.erase().await;
                    info!("the journal is erased, as the owner wished");
                    erased = Some(order);
                    continue;
                }
                Err(error) => warn!("the journal cannot be erased: {error}"),
            }
        }
        sleep(EVERY).await;
    }
}
