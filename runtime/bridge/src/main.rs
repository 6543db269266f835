//! `cloister-bridge`: MQTT on one side, the Unix socket of `cloister serve` on the other.
//!
//! In: options. Out: an answer for each ask, until SIGTERM or SIGINT; exit code 0 then, 2 for wrong
//! use, 1 for anything else.
//! Must never open a connection but to its one broker and that socket, and must never listen.

// A reader that goes away must not end a program; `output::print` lets it go.
#![deny(clippy::print_stdout)]

mod announce;
mod answer;
mod answers;
mod ask;
mod bridge;
mod broker;
mod choices;
mod client;
mod config;
mod discovery;
mod journal;
mod privacy;
mod recipes;
mod state;
mod subscriptions;
mod tls;
mod topics;

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloister_program::readiness::Readiness;
use cloister_program::{command_line, panics, private};
use cloister_sandbox::Seal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;

use crate::bridge::Bridge;
use crate::broker::Filters;
use crate::choices::Choices;
use crate::client::Engine;
use crate::config::{Args, Settings};
use crate::journal::Journal;

/// How long a clean end may take before the bridge just goes; the last will then says `offline`.
const FAREWELL: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    panics::tell_only_where("cloister-bridge");
    cloister_wipe::on_free();
    let args: Args = command_line::parse();
    private::begin();
    let check = args.check;
    let settings = match Settings::gather(args) {
        Ok(_) if check => return ExitCode::SUCCESS,
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("cloister-bridge: {error:#}");
            return ExitCode::from(2);
        }
    };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloister-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<()> {
    let log = tracing_subscriber::registry()
        .with(EnvFilter::try_from_env("CLOISTER_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal()),
        );
    // Only our own lines: the records of the MQTT library, which may show payloads, go nowhere.
    tracing::subscriber::set_global_default(log).context("cannot start the log")?;
    make_durable_folder(&settings.state)
        .with_context(|| format!("cannot use the state folder {}", settings.state.display()))?;
    let readiness = Readiness::prepare().unwrap_or_else(|error| {
        tracing::warn!("cannot tell when the bridge is ready: {error}");
        Readiness::to_nobody()
    });
    // From here on there are no files but these, and no port but the broker's.
    let seal = settings.policy().seal()?;
    match seal.gaps().is_empty() {
        true => info!("{}", seal.line()),
        false => tracing::warn!("{}", seal.line()),
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(settings, readiness, seal))
}

/// Makes a folder that a power cut does not take away with what is in it.
fn make_durable_folder(folder: &Path) -> std::io::Result<()> {
    let missing: Vec<_> = folder
        .ancestors()
        .take_while(|folder| !folder.exists() && !folder.as_os_str().is_empty())
        .collect();
    private::folder(folder)?;
    for made in missing {
        let holds_it = made
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(holds_it.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

async fn serve(settings: Settings, readiness: Readiness, seal: Seal) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    let topics = settings.topics;
    let (journal, journal_thread) = Journal::open(&settings.state, settings.limits)?;
    let defaults = journal.with(|answers| choices::load(answers.database()));
    let choices = Arc::new(Choices::kept(defaults.await?));
    let engine = Arc::new(Engine::at(settings.socket));
    let wanted: Vec<_> = topics
        .filters()
        .into_iter()
        .chain(settings.recipes.filters())
        .collect();
    let welcome: Vec<_> = topics.home_assistant().into_iter().collect();
    let all = [&wanted[..], &welcome].concat();
    let filters = Filters {
        unwanted: journal
            .with(move |answers| subscriptions::remember(answers.database(), &all))
            .await?,
        wanted,
        welcome,
    };
    let (publisher, link) = broker::prepare(
        &settings.broker,
        settings.wire,
        settings.broker.client_id(&settings.node)?,
        &topics,
        filters,
    )?;
    let bridge = Bridge::between(
        topics.clone(),
        Arc::clone(&engine),
        publisher.clone(),
        journal.clone(),
        Arc::clone(&choices),
        settings.recipes,
    );
    let taker = Arc::clone(&bridge);
    let mut link = tokio::spawn(link.run(move |message, receipt| {
        let taker = Arc::clone(&taker);
        async move { taker.take(message, receipt).await }
    }));
    let mut without_end = JoinSet::new();
    without_end.spawn(Arc::clone(&bridge).work());
    let listening = publisher.listening();
    let mut first = listening.clone();
    tokio::spawn(async move {
        if first.wait_for(|listening| *listening).await.is_ok()
            && let Err(error) = readiness.tell()
        {
            tracing::warn!("cannot tell that the bridge is ready: {error}");
        }
    });
    let latest = watch::Sender::new(None);
    without_end.spawn(announce::announce(
        Arc::clone(&engine),
        publisher.clone(),
        topics.clone(),
        choices,
        latest.subscribe(),
    ));
    without_end.spawn(privacy::report(
        Arc::clone(&engine),
        Arc::clone(&bridge),
        journal.clone(),
        seal,
        settings.state,
    ));
    without_end.spawn(state::report(
        engine,
        publisher.clone(),
        topics,
        Arc::clone(&bridge),
        journal.clone(),
        latest,
    ));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // A bug. Whoever watches this process starts it again, and it goes on where it was.
        () = journal.ended() => bail!("the journal's thread ended before its time"),
        _ = &mut link => bail!("the connection's task ended before its time"),
        _ = without_end.join_next() => bail!("a task ended that has no end"),
    }
    info!("stopping");
    bridge.stop().await;
    if *listening.borrow() {
        let farewell = async {
            publisher.close().await;
            (&mut link).await
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            info!("stopped without a farewell to the broker");
        }
    }
    journal.end().await;
    if journal_thread.join().is_err() {
        bail!("the journal's thread ended before its time");
    }
    Ok(())
}
