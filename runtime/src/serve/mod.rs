//! `cloister serve`: the engine behind HTTP, on a TCP port and on a Unix socket alike.
//!
//! Accepts connections and reads models; opens no connection of its own, and once it listens the kernel refuses it
//! one.

mod api_error;
mod ask;
mod bodies;
mod cards;
mod chat;
mod connections;
mod embedders;
mod embeddings;
mod events;
mod fields;
mod files;
mod gate;
#[cfg(test)]
mod hostile;
mod idle;
mod listen;
mod loading;
mod metrics;
mod model_list;
mod models;
mod names;
mod notices;
mod ollama;
mod openapi;
mod options;
mod page;
mod pair;
mod panel;
mod peer;
mod privacy;
mod rate;
mod responses;
mod revoked;
mod routes;
mod scopes;
mod sensors;
mod templates;
pub mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use cloister_program::readiness::Readiness;
use cloister_sandbox::observed::Family;
use cloister_sandbox::{Seal, processes};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::access::Access;
use crate::settings::{self, WrongUse};
use crate::up::home_network;
use crate::{rehearsal, renderer};
use bodies::Bodies;
use files::Files;
use gate::Gate;
use models::Models;
use names::Names;
use notices::Notices;
pub use options::{Certificate, ServeArgs, ServeOptions, place};
use panel::Panel;
use peer::Users;
use privacy::{Ledger, Reporters};
use templates::Template;
use tls::Tls;

/// Largest request body, in bytes: far more text than any context holds.
const MAX_BODY: usize = 16 << 20;

/// `cloister warm`: has each model read these files and store what it makes of them, one after the other.
///
/// # Errors
/// Wrong use, a model that does not load, a template that cannot be stored.
pub fn warm(args: ServeArgs, files: &[PathBuf]) -> anyhow::Result<()> {
    let options = args.settle()?;
    let templates = Template::read_all(files)?;
    let state = settings::state_folder(options.state.clone())?;
    let models = options.models(&state)?;
    rehearsal::start_helper(&models.reads())?;
    renderer::start_helper()?;
    processes::serve(&models.reads(), &state).seal()?;
    crate::runtime()?.block_on(templates::warm(&models, &templates))
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// Wrong use, an address that is taken, a model that does not load.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let options = args.settle()?;
    let templates = Template::read_all(options.templates.as_deref().unwrap_or_default())?;
    let state = settings::state_folder(options.state.clone())?;
    let models = options
        .models(&state)?
        .with_reasoning_budget(options.reasoning_budget)
        .with_idle_unload(options.stay()?)
        .with_templates(templates);
    let passed = listen::passed()?;
    if passed.is_some() && (options.listen.is_some() || options.lan) {
        return Err(WrongUse(
            "listen and lan say where to listen, and so does the unit that this process was started by: leave it to ListenStream= of cloister-serve.socket, or start it without that unit".to_owned(),
        )
        .into());
    }
    rehearsal::start_helper(&models.reads())?;
    renderer::start_helper()?;
    let tcp = match passed {
        Some(tcp) => tcp,
        None => listen::tcp(place(options.listen, options.lan)?)?,
    };
    let place = tcp.local_addr()?;
    let (unix, socket) = listen::unix(
        options
            .socket
            .unwrap_or_else(|| state.join("cloister.sock")),
    )?;
    let names = Names::new(options.hostnames.as_deref().unwrap_or_default());
    let encrypts = options.tls.unwrap_or(!place.ip().is_loopback());
    let addresses = home_network::addresses_of(&tcp);
    let tls = encrypts.then(|| Tls::of(&state, names.clone(), &addresses));
    let tls = tls.transpose()?.map(Arc::new);
    let readiness = Readiness::prepare().unwrap_or_else(|error| {
        tracing::warn!("cannot tell when this is ready: {error}");
        Readiness::to_nobody()
    });
    let reporters = Reporters {
        bridge: Users::with("cloister-bridge"),
        panel: Users::with("cloister-panel"),
    };
    let panel_users = reporters.panel.clone();
    let family = Family::around();
    // From here on nothing new leads out: no socket is opened, no program started, no other file read.
    let notices = Notices(options.notices);
    let seal = processes::serve(&models.reads(), &state);
    let seal = notices
        .folder()
        .into_iter()
        .fold(seal, |seal, folder| seal.read(folder))
        .seal()?;

    let runtime = crate::runtime()?;
    let models = Arc::new(models);
    let url = names.url(encrypts, tcp.local_addr()?);
    let gate = Gate {
        names,
        access: Access::of(&state),
        rate: rate::Rate::default(),
        wrong: rate::Wrong::default(),
        own: Bodies::default(),
        network: Bodies::default(),
    };
    let ledger = Arc::new(Ledger::new(
        models.clone(),
        seal.clone(),
        family,
        reporters,
        &state,
    ));
    let restraint = models.restraint().clone();
    let fingerprint = encrypts.then(|| tls::fingerprint(&state));
    let door = panel::Door {
        url,
        fingerprint: fingerprint.transpose()?,
        access: Access::of(&state),
    };
    let panel = Panel::new(
        models.clone(),
        ledger.clone(),
        restraint,
        &state,
        door,
        panel_users,
    );
    let panel = Arc::new(panel);
    let served = Served {
        app: routes::router(
            models.clone(),
            ledger,
            panel.clone(),
            (Arc::new(Files::of(&state)), Arc::new(notices)),
            Arc::new(gate),
        ),
        models,
        panel,
        tls,
        socket,
        state,
        readiness,
        seal,
    };
    let result = runtime.block_on(served.until_stopped(tcp, unix));
    // Open event streams never end by themselves.
    runtime.shutdown_background();
    result
}

/// What is served, and who is told.
struct Served {
    app: Router,
    models: Arc<Models>,
    panel: Arc<Panel>,
    tls: Option<Arc<Tls>>,
    socket: listen::SocketFile,
    state: PathBuf,
    readiness: Readiness,
    seal: Seal,
}

impl Served {
    async fn until_stopped(
        self,
        tcp: std::net::TcpListener,
        unix: std::os::unix::net::UnixListener,
    ) -> anyhow::Result<()> {
        let (models, encrypts) = (self.models, self.tls.is_some());
        let address = tcp.local_addr()?;
        let (tcp, unix) = (TcpListener::from_std(tcp)?, UnixListener::from_std(unix)?);
        tokio::spawn(connections::over_tcp(tcp, self.app.clone(), self.tls));
        tokio::spawn(connections::over_unix(unix, self.app));

        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let stopped = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::pin!(stopped);
        tokio::select! {
            loaded = models.load_first() => {
                let (name, what) = loaded?;
                match self.seal.gaps().is_empty() {
                    true => tracing::info!("{}", self.seal.line()),
                    false => tracing::warn!("{}", self.seal.line()),
                }
                tracing::info!(
                    "{name} is ready on {}://{address} and {}: {what}",
                    if encrypts { "https" } else { "http" }, self.socket.path().display()
                );
                if encrypts {
                    tracing::info!("its certificate has the fingerprint {}", tls::fingerprint(&self.state)?);
                }
                if let Err(error) = self.readiness.tell() {
                    tracing::warn!("cannot tell that this is ready: {error}");
                }
            }
            () = &mut stopped => return Ok(()),
        }
        tokio::select! {
            () = stopped => {}
            () = models.rest_when_idle() => {}
            () = self.panel.outlive() => {}
            () = still_computes(&models, &self.readiness) => {}
        }
        models.unload().await;
        Ok(())
    }
}

/// Tells whoever started this that it still runs, for as long as it also computes.
async fn still_computes(models: &Models, readiness: &Readiness) {
    let Some(every) = readiness.alive_every() else {
        return std::future::pending().await;
    };
    loop {
        if models.computes().await {
            // Nobody who listens is not there.
            let _ = readiness.alive();
        }
        tokio::time::sleep(every).await;
    }
}
