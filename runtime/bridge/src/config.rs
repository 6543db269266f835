//! Options: the command line, the environment and `cloister.toml`, in that order of precedence.
//!
//! In: arguments, `CLOISTER_*` variables, the `[bridge]` table of a file. Out: checked [`Settings`].
//! Must never print the broker's password, and must never ask a name server: a broker is an address
//! or a name in the hosts file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use cloister_program::config_file;
use cloister_program::node::Node;
use serde::Deserialize;

use crate::answers::Limits;

/// MQTT on one side, the Unix socket of `cloister serve` on the other.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// The broker: mqtt://[user:password@]host[:1883]. The host is an address or a name in the hosts file
    #[arg(long, env = "CLOISTER_BROKER", hide_env_values = true)]
    broker: Option<String>,
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
    /// What the topics must begin with on which askers may want answers, by commas [default: any]
    #[arg(long, env = "CLOISTER_REPLY_PREFIXES", value_delimiter = ',')]
    reply_prefixes: Option<Vec<String>>,
    /// Where Home Assistant looks for devices [default: homeassistant]
    #[arg(long, env = "CLOISTER_DISCOVERY_PREFIX")]
    discovery_prefix: Option<String>,
    /// Do not show the box to Home Assistant, and withdraw what was announced before
    #[arg(long, env = "CLOISTER_NO_DISCOVERY")]
    no_discovery: bool,
    /// A cloister.toml whose [bridge] table holds these options by the same names
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
    /// The MQTT version.
    pub mqtt_version: MqttVersion,
    /// Pools to share work in.
    pub pools: Vec<Node>,
    /// What the journal may keep.
    pub limits: Limits,
    /// What a reply topic must begin with; anything, if empty.
    pub reply_prefixes: Vec<String>,
    /// Where Home Assistant looks for devices.
    pub discovery_prefix: String,
    /// Whether it is to find this one.
    pub discovery: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BridgeTable {
    broker: Option<String>,
    socket: Option<PathBuf>,
    state: Option<PathBuf>,
    node: Option<String>,
    #[serde(rename = "mqtt-version")]
    mqtt_version: Option<MqttVersion>,
    pools: Option<Vec<String>>,
    #[serde(rename = "max-waiting")]
    max_waiting: Option<u64>,
    #[serde(rename = "keep-answers")]
    keep_answers: Option<u64>,
    #[serde(rename = "reply-prefixes")]
    reply_prefixes: Option<Vec<String>>,
    #[serde(rename = "discovery-prefix")]
    discovery_prefix: Option<String>,
    #[serde(default, rename = "no-discovery")]
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
        Ok(Self {
            broker: Broker::parse(
                &broker,
                &std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
            )?,
            socket: args
                .socket
                .or(table.socket)
                .with_context(|| needed("socket"))?,
            state: args
                .state
                .or(table.state)
                .with_context(|| needed("state"))?,
            node,
            mqtt_version: args
                .mqtt_version
                .or(table.mqtt_version)
                .unwrap_or(MqttVersion::V5),
            pools: args
                .pools
                .or(table.pools)
                .unwrap_or_default()
                .iter()
                .map(|pool| {
                    Node::parse(pool).map_err(|why| anyhow::anyhow!("the pool {pool:?}: {why}"))
                })
                .collect::<Result<_>>()?,
            limits: Limits {
                unanswered: args.max_waiting.or(table.max_waiting).unwrap_or(10_000),
                keep: Duration::from_secs(args.keep_answers.or(table.keep_answers).unwrap_or(60)),
            },
            reply_prefixes: args
                .reply_prefixes
                .or(table.reply_prefixes)
                .unwrap_or_default(),
            discovery_prefix: topic_prefix(
                args.discovery_prefix
                    .or(table.discovery_prefix)
                    .unwrap_or_else(|| "homeassistant".into()),
            )?,
            discovery: !(args.no_discovery || table.no_discovery),
        })
    }
}

/// A prefix of topics, without the slash that follows it.
fn topic_prefix(prefix: String) -> Result<String> {
    let wrong = |c: char| matches!(c, '+' | '#') || c.is_control();
    if prefix.is_empty()
        || prefix.starts_with('$')
        || prefix.ends_with('/')
        || prefix.contains(wrong)
    {
        bail!(
            "the discovery prefix {prefix:?} is no beginning of a topic; Home Assistant's own is \"homeassistant\""
        );
    }
    Ok(prefix)
}

/// Where the broker is and who we are there. Shows its address only, never its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    /// Address and port.
    pub address: SocketAddr,
    /// User name and password.
    pub login: Option<(String, String)>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Broker {
    /// Reads `mqtt://[user:password@]host[:port]`; user and password may be percent-encoded.
    /// `hosts` is the text of the hosts file.
    pub fn parse(url: &str, hosts: &str) -> Result<Self> {
        const SHAPE: &str = "mqtt://[user:password@]host[:1883]";
        if url.starts_with("mqtts://") {
            bail!(
                "the broker URL starts with mqtts://, but there is no TLS here; it must look like {SHAPE}"
            );
        }
        let Some(rest) = url.strip_prefix("mqtt://") else {
            bail!("the broker URL must look like {SHAPE}");
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains(['/', '?', '#']) {
            bail!("the broker URL has something after host and port; it must look like {SHAPE}");
        }
        let login = login
            .map(|login| {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                anyhow::Ok((percent_decoded(user)?, percent_decoded(password)?))
            })
            .transpose()?;
        let (host, port) = match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .with_context(|| {
                    format!("the broker's port {port:?} is not a number from 1 to 65535")
                })?,
            None => 1883,
        };
        Ok(Self {
            address: SocketAddr::new(address_of(host, hosts)?, port),
            login,
        })
    }
}

/// The address of `host`: itself, or the first line of the hosts file that names it.
fn address_of(host: &str, hosts: &str) -> Result<IpAddr> {
    if host.is_empty() {
        bail!("the broker URL names no host");
    }
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let named = hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    });
    named.with_context(|| {
        format!("the broker {host:?} is neither an address nor a name in /etc/hosts; names are looked up nowhere else, so add it there or give the address")
    })
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .context("the broker URL's user or password has a '%' without two hexadecimal digits; write '%25' for a '%'")?;
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).context("the broker URL's user or password is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost # 10.0.0.1 commented\n::1 ip6-localhost\n# 9.9.9.9 off\n192.168.1.5\tbroker.lan Broker\n";

    fn broker(url: &str) -> Result<Broker> {
        Broker::parse(url, HOSTS)
    }

    fn settings(arguments: &[&str]) -> Result<Settings> {
        Settings::gather(Args::parse_from([&["cloister-bridge"], arguments].concat()))
    }

    #[test]
    fn the_host_is_an_address_or_a_name_in_the_hosts_file() {
        for (url, address) in [
            ("mqtt://127.0.0.1", "127.0.0.1:1883"),
            ("mqtt://127.0.0.1:18830/", "127.0.0.1:18830"),
            ("mqtt://[::1]:1884", "[::1]:1884"),
            ("mqtt://[::1]", "[::1]:1883"),
            ("mqtt://localhost", "127.0.0.1:1883"),
            ("mqtt://BROKER:1", "192.168.1.5:1"),
            ("mqtt://ip6-localhost", "[::1]:1883"),
        ] {
            assert_eq!(broker(url).unwrap().address.to_string(), address, "{url}");
        }
    }

    #[test]
    fn a_broker_that_cannot_be_reached_as_written_is_refused() {
        for url in [
            "127.0.0.1",
            "http://127.0.0.1",
            "mqtts://127.0.0.1",
            "mqtt://",
            "mqtt://127.0.0.1:0",
            "mqtt://127.0.0.1:70000",
            "mqtt://127.0.0.1:x",
            "mqtt://127.0.0.1/topic",
            "mqtt://commented",
            "mqtt://off",
            "mqtt://example.com",
            "mqtt://a:%zz@127.0.0.1",
            "mqtt://a:%4@127.0.0.1",
        ] {
            assert!(broker(url).is_err(), "{url}");
        }
    }

    #[test]
    fn user_and_password_may_hold_any_character() {
        let found = broker("mqtt://me%3A:p@s:s%2Fü@localhost").unwrap();
        assert_eq!(found.login, Some(("me:".into(), "p@s:s/ü".into())));
        assert_eq!(
            broker("mqtt://me@localhost").unwrap().login,
            Some(("me".into(), "".into()))
        );
    }

    #[test]
    fn the_password_is_never_shown() {
        let found = broker("mqtt://me:secret@localhost").unwrap();
        assert!(!format!("{found:?}").contains("secret"));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cloister.toml");
        std::fs::write(
            &file,
            "[serve]\nlisten = \"127.0.0.1:1\"\n[bridge]\nbroker = \"mqtt://127.0.0.1:7\"\nsocket = \"/s\"\nstate = \"/st\"\nnode = \"n\"\nmqtt-version = \"3.1.1\"\n",
        )
        .unwrap();
        let file = file.to_str().unwrap();
        let from_file = settings(&["--config", file]).unwrap();
        assert_eq!(from_file.node.to_string(), "n");
        assert_eq!(from_file.mqtt_version, MqttVersion::V3_1_1);
        assert_eq!(from_file.broker.address.port(), 7);
        let mixed = settings(&["--config", file, "--node", "m", "--mqtt-version", "5"]).unwrap();
        assert_eq!(mixed.node.to_string(), "m");
        assert_eq!(mixed.mqtt_version, MqttVersion::V5);
    }

    #[test]
    fn a_file_with_an_unknown_key_is_refused_without_quoting_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cloister.toml");
        std::fs::write(&file, "[bridge]\nbrocker = \"mqtt://a:secret@b\"\n").unwrap();
        let error = format!(
            "{:#}",
            settings(&["--config", file.to_str().unwrap()]).unwrap_err()
        );
        assert!(error.contains("brocker"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn home_assistant_finds_the_box_unless_told_otherwise() {
        let with = |more: &[&str]| {
            let needed = [
                "--broker",
                "mqtt://127.0.0.1",
                "--socket",
                "/s",
                "--state",
                "/s",
            ];
            settings(&[&needed, more].concat())
        };
        let found = with(&[]).unwrap();
        assert!(found.discovery);
        assert_eq!(found.discovery_prefix, "homeassistant");
        let off = with(&["--no-discovery", "--discovery-prefix", "ha/main"]).unwrap();
        assert!(!off.discovery);
        assert_eq!(off.discovery_prefix, "ha/main");
        for bad in ["", "a/#", "$SYS", "a/"] {
            let error = with(&["--discovery-prefix", bad]).unwrap_err().to_string();
            assert!(error.contains("discovery prefix"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = settings(&["--broker", "mqtt://127.0.0.1", "--state", "/s"]).unwrap_err();
        assert!(error.to_string().contains("--socket"), "{error}");
    }
}
