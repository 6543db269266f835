//! Options: the command line, the environment and `cloister.toml`, in that order of precedence.
//!
//! In: arguments, `CLOISTER_*` variables, the `[bridge]` table of a file. Out: checked [`Settings`].
//! Must never print the broker's password, and must never ask a name server: a broker is an address
//! or a name in the hosts file.

mod broker;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use cloister_program::config_file;
use cloister_program::node::Node;
use cloister_program::topics::beginning;
use cloister_sandbox::{Policy, processes};
use serde::Deserialize;

use crate::answers::Limits;
use crate::recipes::Recipes;
use crate::tls;
use crate::topics::Topics;

pub use broker::{Broker, Tls};

/// MQTT on one side, the Unix socket of `cloister serve` on the other.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// The broker: mqtt://[user:password@]host[:1883], or mqtts://, ws:// or wss:// with a path. The host is an address or a name in the hosts file
    #[arg(long, env = "CLOISTER_BROKER", hide_env_values = true)]
    broker: Option<String>,
    /// A file with one line user:password for the broker, in place of the URL's
    #[arg(long, value_name = "FILE", env = "CLOISTER_LOGIN_FILE")]
    login_file: Option<PathBuf>,
    /// For mqtts and wss: the certificates, in PEM, of the CA that signed the broker's; no other is trusted
    #[arg(long, value_name = "FILE", env = "CLOISTER_CAFILE")]
    cafile: Option<PathBuf>,
    /// The certificate, in PEM, that shows the broker who we are, and those between it and its CA
    #[arg(long, value_name = "FILE", env = "CLOISTER_CERTFILE")]
    certfile: Option<PathBuf>,
    /// The private key of --certfile, in PEM, without a passphrase
    #[arg(long, value_name = "FILE", env = "CLOISTER_KEYFILE")]
    keyfile: Option<PathBuf>,
    /// Seconds of silence, 5 to 3600, after which each side asks whether the other is still there [default: 15]
    #[arg(long, value_name = "SECONDS", env = "CLOISTER_KEEP_ALIVE")]
    keep_alive: Option<u16>,
    /// The most bytes in one MQTT 5 message from the broker, which drops what is longer [default: 16777216]
    #[arg(long, value_name = "BYTES", env = "CLOISTER_MAX_PACKET")]
    max_packet: Option<u32>,
    /// The Unix socket of `cloister serve`
    #[arg(long, env = "CLOISTER_SOCKET")]
    socket: Option<PathBuf>,
    /// The folder for what must survive a restart; made if it is not there
    #[arg(long, env = "CLOISTER_STATE")]
    state: Option<PathBuf>,
    /// The name in cloister/<NODE>/ask [default: the host name]
    #[arg(long, env = "CLOISTER_NODE")]
    node: Option<String>,
    /// Look at the options and the configuration, say what is wrong with them, and end
    #[arg(long)]
    pub check: bool,
    /// The MQTT version to speak [default: 5]
    #[arg(long, env = "CLOISTER_MQTT_VERSION")]
    mqtt_version: Option<MqttVersion>,
    /// Pools to share work in, by commas: each ask on cloister/pool/<POOL>/ask goes to one of their boxes
    #[arg(long, env = "CLOISTER_POOLS", value_delimiter = ',')]
    pools: Option<Vec<String>>,
    /// How many asks may wait; one more is told `busy` [default: 10000]
    #[arg(long, env = "CLOISTER_MAX_WAITING")]
    max_waiting: Option<u64>,
    /// Seconds for which an answer is kept after the broker has it, for those who ask again [default: 60]
    #[arg(long, env = "CLOISTER_KEEP_ANSWERS")]
    keep_answers: Option<u64>,
    /// The levels that topics must begin with on which askers may want answers, by commas [default: answers]
    #[arg(long, env = "CLOISTER_REPLY_PREFIXES", value_delimiter = ',')]
    reply_prefixes: Option<Vec<String>>,
    /// Where Home Assistant looks for devices [default: homeassistant]
    #[arg(long, env = "CLOISTER_DISCOVERY_PREFIX")]
    discovery_prefix: Option<String>,
    /// Do not show the box to Home Assistant, and withdraw what was announced before
    #[arg(long, env = "CLOISTER_NO_DISCOVERY")]
    no_discovery: bool,
    /// A cloister.toml whose [bridge] table holds these options by the same names, and whose [[recipe]] tables say what is asked by itself
    #[arg(long, env = "CLOISTER_CONFIG")]
    config: Option<PathBuf>,
}

/// The MQTT version spoken with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
pub enum MqttVersion {
    /// Version 3.1.1: no Response Topic, no Message Expiry.
    #[value(name = "3.1.1")]
    #[serde(rename = "3.1.1")]
    V3_1_1,
    /// Version 5.
    #[value(name = "5")]
    #[serde(rename = "5")]
    V5,
}

/// How to talk to the broker, once there is a connection.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// The MQTT version.
    pub version: MqttVersion,
    /// After so many seconds without a word, each side asks whether the other is still there.
    pub keep_alive: u16,
    /// The most bytes in one message from the broker, as far as it can be told.
    pub max_packet: u32,
}

/// Everything the bridge needs to know, checked.
#[derive(Debug)]
pub struct Settings {
    /// The broker.
    pub broker: Broker,
    /// The engine's Unix socket.
    pub socket: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// The name of this box.
    pub node: Node,
    /// How to talk to the broker.
    pub wire: Wire,
    /// The topics of this box and of its pools.
    pub topics: Topics,
    /// What is asked by itself.
    pub recipes: Recipes,
    /// What the journal may keep.
    pub limits: Limits,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BridgeTable {
    broker: Option<String>,
    login_file: Option<PathBuf>,
    cafile: Option<PathBuf>,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    keep_alive: Option<u16>,
    max_packet: Option<u32>,
    socket: Option<PathBuf>,
    state: Option<PathBuf>,
    node: Option<String>,
    mqtt_version: Option<MqttVersion>,
    pools: Option<Vec<String>>,
    max_waiting: Option<u64>,
    keep_answers: Option<u64>,
    reply_prefixes: Option<Vec<String>>,
    discovery_prefix: Option<String>,
    #[serde(default)]
    no_discovery: bool,
}

impl Settings {
    /// Brings the sources together. Reads the file, the hosts file and the host name.
    pub fn gather(args: Args) -> Result<Self> {
        let table: BridgeTable = config_file::table(args.config.as_deref(), "bridge")?;
        let needed = |name: &str| {
            format!(
                "--{name} is missing; give it, or CLOISTER_{}",
                name.to_uppercase()
            )
        };
        let broker = args
            .broker
            .or(table.broker)
            .with_context(|| needed("broker"))?;
        let node = match args.node.or(table.node) {
            Some(name) => Node::parse(&name).map_err(anyhow::Error::msg)?,
            None => Node::of_this_host(),
        };
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let broker = Broker::parse(&broker, &hosts)?
            .with_login_file(args.login_file.or(table.login_file))?
            .with_certificates(
                args.cafile.or(table.cafile),
                args.certfile.or(table.certfile),
                args.keyfile.or(table.keyfile),
            )?;
        if let Some(files) = &broker.tls {
            tls::client_config(files).map_err(anyhow::Error::msg)?;
        }
        let pools: Vec<_> = args
            .pools
            .or(table.pools)
            .unwrap_or_default()
            .iter()
            .map(|pool| {
                Node::parse(pool).map_err(|why| anyhow::anyhow!("the pool {pool:?}: {why}"))
            })
            .collect::<Result<_>>()?;
        let mut topics = Topics::of(&node, &pools);
        if let Some(prefixes) = args.reply_prefixes.or(table.reply_prefixes) {
            let checked = prefixes.iter().map(|prefix| beginning(prefix));
            let checked: Result<Vec<_>, _> =
                checked.map(|levels| levels.map(str::to_owned)).collect();
            topics = topics
                .allow_replies(checked.map_err(|why| anyhow::anyhow!("reply-prefixes: {why}"))?);
        }
        let discovery_prefix = args
            .discovery_prefix
            .or(table.discovery_prefix)
            .unwrap_or_else(|| "homeassistant".into());
        let topics = topics.announce(
            topic_prefix(discovery_prefix)?,
            !(args.no_discovery || table.no_discovery),
        );
        Ok(Self {
            recipes: Recipes::read(args.config.as_deref(), &topics)?,
            topics,
            broker,
            socket: args
                .socket
                .or(table.socket)
                .with_context(|| needed("socket"))?,
            state: args
                .state
                .or(table.state)
                .with_context(|| needed("state"))?,
            node,
            wire: Wire {
                version: args
                    .mqtt_version
                    .or(table.mqtt_version)
                    .unwrap_or(MqttVersion::V5),
                keep_alive: within(
                    "keep-alive",
                    args.keep_alive.or(table.keep_alive).unwrap_or(15),
                    5..=3600,
                )?,
                max_packet: within(
                    "max-packet",
                    args.max_packet
                        .or(table.max_packet)
                        .unwrap_or(16 * 1024 * 1024),
                    // Above the longest ask, so that a somewhat too long one gets its error.
                    2 * 1024 * 1024..=256 * 1024 * 1024,
                )?,
            },
            limits: Limits {
                unanswered: args.max_waiting.or(table.max_waiting).unwrap_or(10_000),
                keep: Duration::from_secs(args.keep_answers.or(table.keep_answers).unwrap_or(60)),
            },
        })
    }
}

impl Settings {
    /// What the bridge may do once it runs.
    pub fn policy(&self) -> Policy {
        let port = self.broker.address.port();
        processes::bridge(port, &self.socket, &self.state, &self.broker.files())
    }
}

/// A prefix of topics, without the slash that follows it.
fn topic_prefix(prefix: String) -> Result<String> {
    if beginning(&prefix) != Ok(prefix.as_str()) {
        bail!(
            "the discovery prefix {prefix:?} is no beginning of a topic; Home Assistant's own is \"homeassistant\""
        );
    }
    Ok(prefix)
}

fn within<T: PartialOrd + Display>(name: &str, value: T, range: RangeInclusive<T>) -> Result<T> {
    if range.contains(&value) {
        return Ok(value);
    }
    bail!(
        "{name} is {value}; it must be from {} to {}",
        range.start(),
        range.end()
    )
}

#[cfg(test)]
mod tests;
