//! What `up` is to start, brought together from the command line, the environment and `cloister.toml`.
//!
//! In: options, and the tables `[up]`, `[serve]` and `[bridge]`. Out: a [`Plan`], and the commands of the
//! two services.
//! Must never leave a key without effect: what the tables of the services say and `up` has to know is
//! taken from there, and two tables that say different things are refused.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cloister_program::node::Node;

use super::UpArgs;
use super::endpoints::Entrance;
use super::house_broker::{self, HouseBroker};
use super::mosquitto::{self, OwnBroker};
use super::rights::Rights;
use crate::access::{Access, Scope};
use crate::serve::{Certificate, ServeOptions, tls};
use crate::settings::{self, WrongUse};

/// The table `[up]` of `cloister.toml`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct UpTable {
    model: Option<PathBuf>,
    models: Option<PathBuf>,
    port: Option<u16>,
    broker: Option<String>,
    state: Option<PathBuf>,
    node: Option<String>,
    #[serde(default, rename = "lan-broker")]
    lan_broker: bool,
}

/// What `up` chooses in place of the bridge, of the table `[bridge]`. The bridge looks at the whole of it.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BridgeTable {
    broker: Option<String>,
    socket: Option<PathBuf>,
    state: Option<PathBuf>,
    node: Option<String>,
}

/// What to serve.
enum Source {
    File(PathBuf),
    Folder(PathBuf),
}

/// Everything that `up` needs to know.
pub struct Plan {
    source: Source,
    /// Where the page listens; its port is a free one.
    pub listen: SocketAddr,
    /// Whether that port speaks TLS.
    pub tls: bool,
    /// A broker that is not ours; may hold a password.
    pub broker: Option<String>,
    /// Whether the house is to reach ours.
    lan_broker: bool,
    certificate: Certificate,
    /// The folder of `up` itself, an absolute path.
    pub state: PathBuf,
    serve_state: PathBuf,
    bridge_state: PathBuf,
    socket: PathBuf,
    /// The name of this box in topics.
    pub node: Node,
    config: Option<PathBuf>,
    /// Whether to tell a program rather than a person where the box can be asked.
    pub json: bool,
}

impl Plan {
    /// Brings everything together; makes the state folder and looks for a free port.
    ///
    /// # Errors
    /// Wrong use; a port that is taken; a state folder that cannot be made.
    pub fn gather(args: UpArgs) -> Result<Self> {
        let config = args.config.as_deref();
        let up: UpTable = settings::table(config, "up")?;
        let serve: ServeOptions = settings::table(config, "serve")?;
        serve.check()?;
        let certificate = serve.certificate();
        let bridge: BridgeTable = settings::table(config, "bridge")?;

        let source = match (args.model, args.models) {
            (None, None) => {
                let up = one_model("[up]", up.model, up.models)?;
                let serve = one_model("[serve]", serve.model, serve.models)?;
                match (up, serve) {
                    (Some(_), Some(_)) => bail!(said_twice("model", "[up]", "[serve]")),
                    (given, None) | (None, given) => given,
                }
            }
            (model, models) => one_model("the command line", model, models)?,
        }
        .ok_or_else(|| {
            WrongUse("no model is given; say --model FILE.gguf or --models DIR".into())
        })?;
        let mut listen = crate::serve::place(args.listen.or(serve.listen), args.lan || serve.lan)?;
        if let Some(port) = args.port.or(up.port) {
            listen.set_port(port);
        }
        let broker = match args.broker {
            None => one_of("broker", ("[up]", up.broker), ("[bridge]", bridge.broker))?,
            given => given,
        };
        let node = match args.node {
            None => one_of("node", ("[up]", up.node), ("[bridge]", bridge.node))?,
            given => given,
        };
        let node = match node {
            Some(name) => Node::parse(&name).map_err(WrongUse)?,
            None => Node::of_this_host(),
        };
        let socket = match args.socket {
            None => one_of(
                "socket",
                ("[serve]", serve.socket),
                ("[bridge]", bridge.socket),
            )?,
            given => given,
        };
        let lan_broker = args.lan_broker || up.lan_broker;
        if lan_broker && broker.is_some() {
            return Err(WrongUse(
                "lan-broker is about the broker that this starts, and another is given: keep one of them".into(),
            )
            .into());
        }
        let state = settings::state_folder(args.state.or(up.state))?;
        Ok(Self {
            source,
            tls: args.tls.or(serve.tls).unwrap_or(!listen.ip().is_loopback()),
            listen: free_port(listen)?,
            broker,
            lan_broker,
            certificate,
            serve_state: serve.state.unwrap_or_else(|| state.clone()),
            bridge_state: bridge.state.unwrap_or_else(|| state.clone()),
            socket: socket.unwrap_or_else(|| state.join("cloister.sock")),
            state,
            node,
            config: args.config,
            json: args.json,
        })
    }

    /// The command of `cloister serve`; `program` is `cloister`.
    pub fn serve(&self, program: &Path) -> Command {
        let mut serve = Command::new(program);
        serve.arg("serve");
        // As flags; together with the environment they could contradict each other.
        serve
            .env_remove("CLOISTER_MODEL")
            .env_remove("CLOISTER_MODELS");
        match &self.source {
            Source::File(file) => serve.arg("--model").arg(file),
            Source::Folder(folder) => serve.arg("--models").arg(folder),
        };
        serve.arg("--listen").arg(self.listen.to_string());
        serve.arg("--tls").arg(self.tls.to_string());
        serve
            .arg("--socket")
            .arg(&self.socket)
            .arg("--state")
            .arg(&self.serve_state);
        self.configured(serve)
    }

    /// How others get in, once `serve` is ready: with a fresh pairing code for a person to read.
    pub fn entrance(&self) -> Result<Entrance> {
        let fingerprint = self.tls.then(|| tls::fingerprint(&self.serve_state));
        let open = !self.listen.ip().is_loopback() && !self.json;
        let code = open.then(|| Access::of(&self.serve_state).new_code(Scope::Ask));
        Ok(Entrance {
            fingerprint: fingerprint.transpose()?,
            code: code.transpose()?,
            state: self.serve_state.clone(),
        })
    }

    /// The broker of our own, for the house too where it is to reach it.
    pub fn own_broker(&self) -> Result<OwnBroker> {
        let rights = Rights::gather(&self.node, self.config.as_deref())?;
        let house = self.lan_broker.then(|| {
            let folder = self.certificate.in_folder(&self.serve_state)?;
            HouseBroker::prepare(&self.state, &folder, house_broker::free_port()?)
        });
        OwnBroker::prepare(
            &self.state,
            &rights,
            house.transpose()?,
            mosquitto::free_port()?,
        )
    }

    /// The command of the bridge, which lies beside `program`.
    pub fn bridge(&self, program: &Path, broker: &str) -> Command {
        let mut bridge = Command::new(program.with_file_name("cloister-bridge"));
        // By the environment, not as a flag: the URL may hold a password, and everybody may read flags.
        bridge.env("CLOISTER_BROKER", broker);
        bridge
            .arg("--socket")
            .arg(&self.socket)
            .arg("--state")
            .arg(&self.bridge_state)
            .arg("--node")
            .arg(self.node.to_string());
        self.configured(bridge)
    }

    fn configured(&self, mut command: Command) -> Command {
        if let Some(file) = &self.config {
            command.env("CLOISTER_CONFIG", file);
        }
        command
    }
}

/// The one of a file and a folder that is given.
fn one_model(
    place: &str,
    file: Option<PathBuf>,
    folder: Option<PathBuf>,
) -> Result<Option<Source>, WrongUse> {
    match (file, folder) {
        (Some(_), Some(_)) => Err(WrongUse(format!(
            "{place} has both `model` and `models`; keep one"
        ))),
        (Some(file), None) => Ok(Some(Source::File(file))),
        (None, folder) => Ok(folder.map(Source::Folder)),
    }
}

/// The one value that two tables of the file give.
fn one_of<T: PartialEq>(
    key: &str,
    (one, value): (&str, Option<T>),
    (other, other_value): (&str, Option<T>),
) -> Result<Option<T>, WrongUse> {
    match (value, other_value) {
        (Some(value), Some(other_value)) if value != other_value => {
            Err(said_twice(key, one, other))
        }
        (value, other_value) => Ok(value.or(other_value)),
    }
}

fn said_twice(key: &str, one: &str, other: &str) -> WrongUse {
    WrongUse(format!(
        "the configuration has `{key}` in {one} and in {other}; keep one"
    ))
}

/// The address itself if its port is free, with any free one for port 0.
fn free_port(address: SocketAddr) -> Result<SocketAddr> {
    let (host, port) = (address.ip(), address.port());
    match TcpListener::bind(address) {
        Ok(listener) => listener.local_addr().context("cannot read a socket's port"),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} on {host} is in use; stop the program that listens there, or choose another with --port N"
        ),
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => bail!(
            "{host} is no address of this machine; listen on one that is, or on 0.0.0.0 for all of them"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        up: UpArgs,
    }

    /// The plan of a configuration with these further options. Its state folder ends with the test.
    fn plan(config: &str, options: &[&str]) -> Result<Plan> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cloister.toml");
        std::fs::write(&file, config).unwrap();
        let state = folder.path().join("up");
        let always = ["up", "--config", file.to_str().unwrap()];
        let state = ["--state", state.to_str().unwrap()];
        let line = [&always[..], &state, options].concat();
        Plan::gather(Cli::parse_from(line).up)
    }

    /// The arguments of a command, as text.
    fn arguments(command: &Command) -> String {
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    #[test]
    fn what_the_services_tables_say_reaches_them() {
        let plan = plan(
            "[serve]\nmodel = \"m.gguf\"\nlisten = \"127.0.0.2:0\"\nsocket = \"/s/own.sock\"\nstate = \"/s/serve\"\nslots = 2\n[bridge]\nbroker = \"mqtt://10.0.0.1\"\nstate = \"/s/bridge\"\nnode = \"attic\"\nmqtt-version = \"3.1.1\"\n",
            &[],
        )
        .unwrap();
        let serve = arguments(&plan.serve(Path::new("cloister")));
        let port = plan.listen.port();
        assert_ne!(port, 0);
        assert_eq!(
            serve,
            format!(
                "serve --model m.gguf --listen 127.0.0.2:{port} --tls false --socket /s/own.sock --state /s/serve"
            )
        );
        assert_eq!(plan.broker.as_deref(), Some("mqtt://10.0.0.1"));
        let bridge = arguments(&plan.bridge(Path::new("cloister"), "mqtt://10.0.0.1"));
        assert_eq!(
            bridge,
            "--socket /s/own.sock --state /s/bridge --node attic"
        );
    }

    #[test]
    fn the_command_line_wins_over_every_table() {
        let plan = plan(
            "[serve]\nmodel = \"m.gguf\"\nlisten = \"127.0.0.2:0\"\nsocket = \"/s\"\n[bridge]\nnode = \"attic\"\n",
            &["--models", "folder", "--listen", "127.0.0.3:0", "--socket", "/t", "--node", "cellar"],
        )
        .unwrap();
        let serve = arguments(&plan.serve(Path::new("cloister")));
        assert!(
            serve.contains("--models folder --listen 127.0.0.3:"),
            "{serve}"
        );
        assert!(serve.contains("--socket /t"), "{serve}");
        assert_eq!(plan.node.to_string(), "cellar");
    }

    #[test]
    fn the_home_network_is_let_in_on_all_addresses_and_by_tls_unless_told_otherwise() {
        let lan = |options: &[&str]| {
            let options = [&["--model", "m", "--port", "0"], options].concat();
            let plan = plan("", &options);
            plan.map(|plan| (plan.listen.ip().is_unspecified(), plan.tls))
        };
        assert_eq!(lan(&["--lan"]).unwrap(), (true, true));
        assert_eq!(lan(&["--listen", "0.0.0.0:1"]).unwrap(), (true, true));
        assert_eq!(lan(&["--lan", "--tls", "false"]).unwrap(), (true, false));
        assert_eq!(lan(&[]).unwrap(), (false, false));
        let error = lan(&["--lan", "--listen", "127.0.0.1:1"]).unwrap_err();
        assert!(error.is::<WrongUse>(), "{error}");
    }

    #[test]
    fn a_port_takes_the_place_of_the_one_in_listen() {
        let free = TcpListener::bind((Ipv4Addr::from([127, 0, 0, 2]), 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config =
            format!("[up]\nport = {port}\n[serve]\nmodel = \"m\"\nlisten = \"127.0.0.2:1\"\n");
        let plan = plan(&config, &[]).unwrap();
        assert_eq!(plan.listen.to_string(), format!("127.0.0.2:{port}"));
    }

    #[test]
    fn tables_that_contradict_each_other_or_cannot_be_had_are_wrong_use_and_named() {
        for (config, named) in [
            ("[up]\nmodel = \"a\"\n[serve]\nmodel = \"b\"\n", "`model`"),
            ("[serve]\nmodel = \"a\"\nmodels = \"b\"\n", "[serve]"),
            (
                "[up]\nmodel = \"a\"\nnode = \"n\"\n[bridge]\nnode = \"m\"\n",
                "`node`",
            ),
            (
                "[up]\nmodel = \"a\"\nbroker = \"mqtt://a\"\n[bridge]\nbroker = \"mqtt://b\"\n",
                "`broker`",
            ),
            (
                "[serve]\nmodel = \"a\"\nsocket = \"/a\"\n[bridge]\nsocket = \"/b\"\n",
                "`socket`",
            ),
            ("[serve]\nmodell = \"a\"\n", "`modell`"),
            ("[serve]\nmodel = \"a\"\nslots = 0\n", "slots"),
            ("[serve]\nmodel = \"a\"\nslots = 65\n", "64 or less"),
            ("[serve]\nmodel = \"a\"\nctx = 1\n", "ctx"),
            ("[serve]\nmodel = \"a\"\nthreads = 0\n", "threads"),
        ] {
            let error = plan(config, &["--port", "0"]).err().expect(config);
            assert!(error.is::<WrongUse>(), "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = free_port(address).unwrap_err().to_string();
        assert!(
            error.contains(&address.port().to_string()) && error.contains("--port"),
            "{error}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        // An address that is kept for documentation.
        let error = free_port(SocketAddr::from(([203, 0, 113, 7], 0))).unwrap_err();
        assert!(error.to_string().contains("203.0.113.7"), "{error}");
    }
}
