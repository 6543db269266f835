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
mod page;
mod pair;
mod panel;
mod peer;
mod privacy;
mod rate;
mod responses;
mod scopes;
mod sensors;
mod templates;
pub mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use cloister_engine::{KvType, Options, PrefixFolder};
use cloister_program::readiness::Readiness;
use cloister_sandbox::observed::Family;
use cloister_sandbox::{Seal, processes};
use serde::Deserialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::access::Access;
use crate::settings::{self, WrongUse};
use crate::up::home_network;
use crate::{rehearsal, renderer};
use bodies::Bodies;
use files::Files;
use gate::Gate;
use idle::Stay;
use models::Models;
use names::Names;
use notices::Notices;
use panel::Panel;
use peer::Users;
use privacy::{Ledger, Reporters};
use templates::Template;
use tls::Tls;

/// How long one of several models stays loaded that nobody asks, as with Ollama.
const IDLE_UNLOAD: Duration = Duration::from_secs(300);

/// Largest request body, in bytes: far more text than any context holds.
const MAX_BODY: usize = 16 << 20;

/// Options of `cloister serve`.
#[derive(clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    options: ServeOptions,
    /// A TOML file; its table `[serve]` has these options as keys.
    #[arg(long, env = "CLOISTER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What may be set on the command line, in the environment, and in `[serve]` of the file.
#[derive(clap::Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServeOptions {
    /// The GGUF file to serve.
    #[arg(
        long,
        env = "CLOISTER_MODEL",
        value_name = "FILE",
        conflicts_with = "models"
    )]
    pub model: Option<PathBuf>,
    /// A folder of GGUF files: one at a time is loaded, whichever is asked for.
    #[arg(long, env = "CLOISTER_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Address and port for HTTP [default: 127.0.0.1:8080]. Who comes from another machine needs a key or a paired
    /// browser: see `cloister pair` and `cloister keys`.
    #[arg(long, env = "CLOISTER_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listen for the home network, on all addresses.
    #[arg(long, env = "CLOISTER_LAN")]
    #[serde(default)]
    pub lan: bool,
    /// Whether the port speaks TLS, with a certificate of the box's own [default: true beyond loopback]. Programs on
    /// this machine may go without.
    #[arg(long, env = "CLOISTER_TLS", value_name = "true|false")]
    pub tls: Option<bool>,
    /// Unix socket for the bridge and other local programs [default: STATE/cloister.sock].
    #[arg(long, env = "CLOISTER_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Folder for what the service keeps [default: ~/.local/state/cloister].
    #[arg(long, env = "CLOISTER_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Further names by which browsers reach this box, separated by commas; its addresses, localhost, the
    /// host's name and that name in .local need not be said.
    #[arg(
        long,
        env = "CLOISTER_HOSTNAMES",
        value_name = "NAME,..",
        value_delimiter = ','
    )]
    hostnames: Option<Vec<String>>,
    /// How long a model stays loaded that nobody asks, in seconds or as 5m; -1 is for ever [default: 5m with a folder of
    /// models, for ever with one].
    #[arg(
        long,
        env = "CLOISTER_IDLE_UNLOAD",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    idle_unload: Option<String>,
    /// Tokens that one conversation can hold [default: the model's, up to 4096].
    #[arg(long, env = "CLOISTER_CTX", value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    ctx: Option<u32>,
    /// Requests answered at the same time [default: 4].
    #[arg(long, env = "CLOISTER_SLOTS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: Option<u32>,
    /// Threads [default: the physical cores that this process may use].
    #[arg(long, env = "CLOISTER_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// Element type of the KV cache [default: f16].
    #[arg(long, env = "CLOISTER_KV_TYPE", value_name = "TYPE")]
    kv_type: Option<KvTypeName>,
    /// Requests that may wait for a slot [default: 64]; further ones are refused.
    #[arg(long, env = "CLOISTER_QUEUE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    queue: Option<u32>,
    /// Most tokens of a thought, where a request does not say otherwise [default: no limit].
    #[arg(long, env = "CLOISTER_REASONING_BUDGET", value_name = "N")]
    reasoning_budget: Option<usize>,
    /// Files of templates to be stored, separated by commas: text is a system message; what ends in .json is a
    /// request of /v1/chat/completions, of which its system messages and tools count.
    #[arg(
        long,
        env = "CLOISTER_TEMPLATES",
        value_name = "FILE,..",
        value_delimiter = ','
    )]
    templates: Option<Vec<PathBuf>>,
    /// MiB of stored templates on the disk; 0 stores none [default: 1024].
    #[arg(long, env = "CLOISTER_CACHE_DISK", value_name = "MIB")]
    cache_disk: Option<u32>,
    /// A small model with the same vocabulary, which says what may come next: answers stay what they are and come
    /// faster, where it is fast and often right.
    #[arg(
        long,
        visible_alias = "spec-draft-model",
        env = "CLOISTER_MODEL_DRAFT",
        value_name = "FILE"
    )]
    model_draft: Option<PathBuf>,
    /// A file whose lines the page shows: what the system around this has to tell the owner.
    #[arg(long, env = "CLOISTER_NOTICES", value_name = "FILE")]
    notices: Option<PathBuf>,
    /// Multiply matrices with ggml's own kernels only.
    #[arg(long, env = "CLOISTER_NO_KERNELS")]
    #[serde(default)]
    no_kernels: bool,
}

#[derive(Clone, Copy, Deserialize, clap::ValueEnum)]
enum KvTypeName {
    #[serde(rename = "f16")]
    F16,
    #[serde(rename = "q8_0")]
    #[value(name = "q8_0")]
    Q8_0,
}

impl ServeOptions {
    /// Refuses what clap refuses on the command line, wherever it was said.
    pub fn check(&self) -> Result<(), WrongUse> {
        let limits = [
            ("ctx", self.ctx.map(u64::from), 32, u64::from(u32::MAX)),
            ("slots", self.slots.map(u64::from), 1, 64),
            ("queue", self.queue.map(u64::from), 1, 4096),
        ];
        for (name, given, least, most) in limits {
            let Some(given) = given.filter(|given| !(least..=most).contains(given)) else {
                continue;
            };
            let range = if given < least {
                format!("{least} or more")
            } else {
                format!("{most} or less")
            };
            return Err(WrongUse(format!("{name} must be {range}, not {given}")));
        }
        self.stay()?;
        settings::check_threads(self.threads)
    }

    /// How long a model stays loaded that nobody asks.
    fn stay(&self) -> Result<Stay, WrongUse> {
        match &self.idle_unload {
            None => Ok(self.models.is_some().then_some(IDLE_UNLOAD)),
            Some(text) => {
                idle::parse(text).map_err(|wrong| WrongUse(format!("idle-unload: {wrong}")))
            }
        }
    }

    /// What the box's certificate is made of.
    pub fn certificate(&self) -> Certificate {
        Certificate(Names::new(self.hostnames.as_deref().unwrap_or_default()))
    }

    /// These, and where one is not given, `other`'s.
    fn or(self, other: Self) -> Self {
        // A model on the command line wins over a folder in the file, and the other way round.
        let chosen = self.model.is_some() || self.models.is_some();
        Self {
            model: if chosen { self.model } else { other.model },
            models: if chosen { self.models } else { other.models },
            listen: self.listen.or(other.listen),
            lan: self.lan || other.lan,
            tls: self.tls.or(other.tls),
            socket: self.socket.or(other.socket),
            state: self.state.or(other.state),
            hostnames: self.hostnames.or(other.hostnames),
            idle_unload: self.idle_unload.or(other.idle_unload),
            ctx: self.ctx.or(other.ctx),
            slots: self.slots.or(other.slots),
            threads: self.threads.or(other.threads),
            kv_type: self.kv_type.or(other.kv_type),
            queue: self.queue.or(other.queue),
            reasoning_budget: self.reasoning_budget.or(other.reasoning_budget),
            templates: self.templates.or(other.templates),
            cache_disk: self.cache_disk.or(other.cache_disk),
            model_draft: self.model_draft.or(other.model_draft),
            notices: self.notices.or(other.notices),
            no_kernels: self.no_kernels || other.no_kernels,
        }
    }
}

/// The names that the box's certificate is to have.
pub struct Certificate(Names);

impl Certificate {
    /// The folder of the certificate and its key, made if there is none.
    pub fn in_folder(&self, state: &Path) -> anyhow::Result<PathBuf> {
        Tls::of(state, self.0.clone(), &home_network::addresses())?;
        Ok(state.join("tls"))
    }
}

/// The port of the page.
const PORT: u16 = 8080;

/// Where to listen, if this address is given or the home network meant.
///
/// # Errors
/// The network is meant, and an address given that it cannot reach.
pub fn place(listen: Option<SocketAddr>, lan: bool) -> Result<SocketAddr, WrongUse> {
    match listen {
        Some(address) if lan && address.ip().is_loopback() => Err(WrongUse(format!(
            "lan means that the home network reaches this box, and {address} is this machine's alone: keep one of them"
        ))),
        Some(address) => Ok(address),
        None if lan => Ok(SocketAddr::from(([0, 0, 0, 0], PORT))),
        None => Ok(SocketAddr::from(([127, 0, 0, 1], PORT))),
    }
}

impl ServeArgs {
    /// What holds: of the command line and the environment, else of the file.
    fn settle(self) -> anyhow::Result<ServeOptions> {
        let file = settings::table(self.config.as_deref(), "serve")?;
        let options = self.options.or(file);
        place(options.listen, options.lan)?;
        options.check()?;
        Ok(options)
    }
}

/// The models that the options name, as they are to be served with this state folder.
fn models(options: &ServeOptions, state: &Path) -> anyhow::Result<Models> {
    let cache_disk = u64::from(options.cache_disk.unwrap_or(1024)) << 20;
    let engine = Options {
        n_ctx: options.ctx,
        n_slots: options.slots.unwrap_or(Options::default().n_slots),
        n_threads: options.threads,
        queue: options
            .queue
            .map_or(Options::default().queue, |n| n as usize),
        kv_type: match options.kv_type {
            None | Some(KvTypeName::F16) => KvType::F16,
            Some(KvTypeName::Q8_0) => KvType::Q8_0,
        },
        rehearse: Some(rehearsal::by_the_helper),
        template: Some(renderer::by_the_helper),
        kernels: !options.no_kernels,
        draft_model: options.model_draft.clone(),
        prefixes: (cache_disk > 0).then(|| PrefixFolder {
            path: state.join("prefixes"),
            max_bytes: cache_disk,
        }),
        ..Options::default()
    };
    let wrong = |message: &str| Err(WrongUse(message.to_owned()).into());
    match (&options.model, &options.models) {
        (Some(file), None) => Ok(Models::of_file(file.clone(), engine)),
        (None, Some(_)) if options.model_draft.is_some() => wrong(
            "a draft model goes with one model, whose vocabulary it has: give model, not models",
        ),
        (None, Some(dir)) => Models::of_folder(dir.clone(), engine),
        (Some(_), Some(_)) => wrong("give either a model or a folder of models"),
        (None, None) => wrong("no model: give --model FILE.gguf or --models DIR"),
    }
}

/// `cloister warm`: has each model read these files and store what it makes of them, one after the other.
///
/// # Errors
/// Wrong use, a model that does not load, a template that cannot be stored.
pub fn warm(args: ServeArgs, files: &[PathBuf]) -> anyhow::Result<()> {
    let options = args.settle()?;
    let templates = Template::read_all(files)?;
    let state = settings::state_folder(options.state.clone())?;
    let models = models(&options, &state)?;
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
    let models = models(&options, &state)?
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
        app: router(
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

fn router(
    models: Arc<Models>,
    ledger: Arc<Ledger>,
    panel: Arc<Panel>,
    (files, notices): (Arc<Files>, Arc<Notices>),
    gate: Arc<Gate>,
) -> Router {
    Router::new()
        .route(
            "/pair",
            post(pair::pair).with_state(gate.clone()).get(page::asset),
        )
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/embeddings", post(embeddings::openai))
        .route("/v1/models", get(model_list::list))
        .route("/v1/models/{id}", get(model_list::show))
        .route("/health", get(model_list::health))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", get(metrics::metrics).with_state(panel.clone()))
        .route(
            "/api/events",
            get(events::events).with_state((panel.clone(), notices)),
        )
        .route("/api/box/files/{name}", put(files::put).with_state(files))
        .route("/api/panel", put(panel::tell).with_state(panel.clone()))
        .route(
            "/api/panel/test",
            post(panel::test).with_state(panel.clone()),
        )
        .route(
            "/api/panel/door",
            get(panel::door).with_state(panel.clone()),
        )
        .route(
            "/api/panel/pair",
            post(panel::pair).with_state(panel.clone()),
        )
        .route("/api/panel/stop", post(panel::stop).with_state(panel))
        .route("/api/render", post(page::render))
        .route(
            "/api/privacy",
            get(privacy::show).with_state(ledger.clone()),
        )
        .route(
            "/api/privacy/report",
            post(privacy::report).with_state(ledger.clone()),
        )
        .route(
            "/api/privacy/erase",
            post(privacy::erase).with_state(ledger),
        )
        .merge(ollama::routes())
        .fallback(page::asset)
        .method_not_allowed_fallback(api_error::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(gate, gate::pass))
        // The gate has read it already, with limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn(ollama::error::in_its_shape))
        .with_state(models)
}
