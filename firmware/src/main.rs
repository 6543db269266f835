//! `cloister-panel`: light, buttons, privacy switch, fan, sensors, display, watchdog of the box.
//!
//! In: options. Out: a box that shows what it does and keeps itself cool, until SIGTERM or SIGINT; or what was found, with
//! `probe`. Exit code 0 then, 2 for wrong use, 1 for anything else.
//! Must never use a network.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use cloister_panel::board::{self, Board, Finding, Machine, Outcome};
use cloister_panel::desk::Desk;
use cloister_panel::link::Link;
use cloister_panel::options::{Arguments, Settings, Task};
use cloister_panel::simulate::{Simulation, Terminal};
use cloister_program::readiness::Readiness;
use cloister_program::{command_line, panics};
use cloister_sandbox::processes;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    panics::tell_only_where("cloister-panel");
    let settings = Settings::gather(command_line::parse::<Arguments>());
    let found = settings.and_then(|settings| {
        let board = board::find_wired(
            &Machine::this(),
            settings.board.as_deref(),
            settings.devices,
        )?;
        Ok((settings.task, board))
    });
    let (task, board) = match found {
        Ok(found) => found,
        Err(error) => {
            // It says all by itself.
            eprintln!("cloister-panel: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match task {
        Task::Probe { json } => {
            probe(&board, json);
            Ok(())
        }
        Task::Watch {
            socket,
            shutdown_file,
            simulate: false,
        } => watch(board, socket, shutdown_file),
        Task::Watch { socket, .. } => simulate(&board, socket),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloister-panel: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn watch(board: Board, socket: PathBuf, shutdown_file: Option<PathBuf>) -> Result<()> {
    let filter = EnvFilter::try_from_env("CLOISTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let missing = board
        .findings
        .iter()
        .filter(|of| matches!(of.outcome, Outcome::Missing { .. }));
    info!(
        "{}: {} devices found, {} missing; `cloister-panel probe` lists them",
        board.name,
        board.findings.len() - missing.clone().count(),
        missing.count()
    );
    let readiness = Readiness::prepare().unwrap_or_else(|error| {
        warn!("cannot tell when the panel is ready: {error}");
        Readiness::to_nobody()
    });
    let mut policy = processes::panel(&socket);
    for folder in &board.folders {
        policy = policy.devices(folder);
    }
    if let Some(folder) = shutdown_file.as_deref().and_then(|file| file.parent()) {
        policy = policy.write(folder);
    }
    // From here on there are no files but these, and no network at all.
    let seal = policy.seal()?;
    match seal.gaps().is_empty() {
        true => info!("{}", seal.line()),
        false => warn!("{}", seal.line()),
    }
    runtime()?.block_on(async {
        let link = Arc::new(Link::to(socket));
        let reports = link.clone();
        tokio::spawn(async move { reports.report(seal).await });
        Desk::of(board, shutdown_file, readiness)
            .run(link, ended()?)
            .await;
        info!("stopping");
        Ok(())
    })
}

/// A board in the terminal, with the limits of this one.
fn simulate(board: &Board, socket: PathBuf) -> Result<()> {
    let terminal = Terminal::open()?;
    let simulation = Simulation::of(&board.name, board.limits, socket.clone());
    let simulated = simulation.board();
    processes::panel(&socket).seal()?;
    runtime()?.block_on(async {
        let desk = Desk::of(simulated, None, Readiness::to_nobody());
        let (reports, working) = (desk.reports(), desk.working());
        let mut result = Ok(());
        let end = ended()?;
        let left = async {
            tokio::select! {
                () = end => {}
                left = terminal.run(&simulation, reports, working) => result = left,
            }
        };
        desk.run(Arc::new(Link::to(socket)), left).await;
        result
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Comes when the process is to end.
fn ended() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn probe(board: &Board, json: bool) {
    if json {
        let said = serde_json::json!({"board": board.name, "findings": board.findings});
        return println!("{said}");
    }
    println!("board: {}", board.name);
    board.findings.iter().for_each(tell);
}

fn tell(finding: &Finding) {
    let (mark, words) = match &finding.outcome {
        Outcome::Found { does } => ("found  ", does),
        Outcome::Missing { why } => ("missing", why),
    };
    println!("{mark}  {:<14}  {}: {words}", finding.what, finding.place);
}
