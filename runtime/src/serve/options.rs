//! What may be said to `cloister serve`: on the command line, in the environment, and in `[serve]` of the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_engine::{KvType, Options, PrefixFolder};
use serde::Deserialize;

use super::idle::{self, Stay};
use super::models::Models;
use super::names::Names;
use super::tls::Tls;
use crate::settings::{self, WrongUse};
use crate::up::home_network;
use crate::{rehearsal, renderer};

/// How long one of several models stays loaded that nobody asks, as with Ollama.
const IDLE_UNLOAD: Duration = Duration::from_secs(300);

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
    pub(super) hostnames: Option<Vec<String>>,
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
    pub(super) reasoning_budget: Option<usize>,
    /// Files of templates to be stored, separated by commas: text is a system message; what ends in .json is a
    /// request of /v1/chat/completions, of which its system messages and tools count.
    #[arg(
        long,
        env = "CLOISTER_TEMPLATES",
        value_name = "FILE,..",
        value_delimiter = ','
    )]
    pub(super) templates: Option<Vec<PathBuf>>,
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
    pub(super) notices: Option<PathBuf>,
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
    pub(super) fn stay(&self) -> Result<Stay, WrongUse> {
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

    /// The models that these name, as they are to be served with this state folder.
    pub fn models(&self, state: &Path) -> anyhow::Result<Models> {
        let cache_disk = u64::from(self.cache_disk.unwrap_or(1024)) << 20;
        let engine = Options {
            n_ctx: self.ctx,
            n_slots: self.slots.unwrap_or(Options::default().n_slots),
            n_threads: self.threads,
            queue: self.queue.map_or(Options::default().queue, |n| n as usize),
            kv_type: match self.kv_type {
                None | Some(KvTypeName::F16) => KvType::F16,
                Some(KvTypeName::Q8_0) => KvType::Q8_0,
            },
            rehearse: Some(rehearsal::by_the_helper),
            template: Some(renderer::by_the_helper),
            kernels: !self.no_kernels,
            draft_model: self.model_draft.clone(),
            prefixes: (cache_disk > 0).then(|| PrefixFolder {
                path: state.join("prefixes"),
                max_bytes: cache_disk,
            }),
            ..Options::default()
        };
        let wrong = |message: &str| Err(WrongUse(message.to_owned()).into());
        match (&self.model, &self.models) {
            (Some(file), None) => Ok(Models::of_file(file.clone(), engine)),
            (None, Some(_)) if self.model_draft.is_some() => wrong(
                "a draft model goes with one model, whose vocabulary it has: give model, not models",
            ),
            (None, Some(dir)) => Models::of_folder(dir.clone(), engine),
            (Some(_), Some(_)) => wrong("give either a model or a folder of models"),
            (None, None) => wrong("no model: give --model FILE.gguf or --models DIR"),
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
    pub(super) fn settle(self) -> anyhow::Result<ServeOptions> {
        let file = settings::table(self.config.as_deref(), "serve")?;
        let options = self.options.or(file);
        place(options.listen, options.lan)?;
        options.check()?;
        Ok(options)
    }
}
