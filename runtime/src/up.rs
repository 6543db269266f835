//! `cloister up`: everything that one machine needs, started and watched by one process.
//!
//! In: a model, a port, maybe a broker. Out: a Mosquitto on loopback unless a broker is given, then
//! `cloister serve`, then `cloister-bridge`, each awaited until it is ready, and a few lines that say
//! how to talk to them. When one ends, or a signal asks for it, all end.
//! Must never speak HTTP or MQTT itself, and must never leave a child behind, even when killed.

mod children;
mod mosquitto;

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::settings::{self, WrongUse};
use children::{Children, Started, StopSignals};

/// A large model on a slow card is read for minutes.
const SERVE_READY_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The broker answers at once or is down; then the page is of use without it.
const BRIDGE_READY_WITHIN: Duration = Duration::from_secs(10);

/// Options of `cloister up`.
#[derive(clap::Args)]
pub struct UpArgs {
    /// The model file to serve
    #[arg(long, env = "CLOISTER_MODEL", value_name = "FILE.gguf")]
    model: Option<PathBuf>,
    /// A folder of model files to choose from
    #[arg(
        long,
        env = "CLOISTER_MODELS",
        value_name = "DIR",
        conflicts_with = "model"
    )]
    models: Option<PathBuf>,
    /// The page's port on 127.0.0.1; 0 takes any that is free [default: 8080]
    #[arg(long, env = "CLOISTER_PORT")]
    port: Option<u16>,
    /// A broker to use instead of a Mosquitto of our own: mqtt://[user:password@]host[:1883]
    #[arg(
        long,
        env = "CLOISTER_BROKER",
        hide_env_values = true,
        value_name = "URL"
    )]
    broker: Option<String>,
    /// The folder for sockets and everything that survives a restart [default: ~/.local/state/cloister]
    #[arg(long, env = "CLOISTER_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The name in the topics cloister/<NODE>/... [default: the host name]
    #[arg(long, env = "CLOISTER_NODE")]
    node: Option<String>,
    /// A cloister.toml; its [up] table holds these options by the same names, and `serve` and the
    /// bridge read their own tables
    #[arg(long, env = "CLOISTER_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Once everything is ready, print one line of JSON instead of the instructions
    #[arg(long)]
    json: bool,
}

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
}

/// What to serve.
enum Source {
    File(PathBuf),
    Folder(PathBuf),
}

/// Everything that `up` needs to know.
struct Plan {
    source: Source,
    /// TCP port of the page on loopback.
    port: u16,
    /// A broker that is not ours; may hold a password.
    broker: Option<String>,
    /// An absolute path.
    state: PathBuf,
    node: String,
    config: Option<PathBuf>,
    json: bool,
}

impl Plan {
    fn gather(args: UpArgs) -> Result<Self> {
        let table: UpTable = settings::table(args.config.as_deref(), "up")?;
        let (model, models) = match (args.model, args.models) {
            (None, None) => (table.model, table.models),
            given => given,
        };
        let source = match (model, models) {
            (Some(file), None) => Source::File(file),
            (None, Some(folder)) => Source::Folder(folder),
            (None, None) => bail!(WrongUse(
                "no model is given; say --model FILE.gguf or --models DIR".into()
            )),
            (Some(_), Some(_)) => bail!(WrongUse(
                "[up] has both `model` and `models`; keep one".into()
            )),
        };
        Ok(Self {
            source,
            port: free_port(args.port.or(table.port).unwrap_or(8080))?,
            broker: args.broker.or(table.broker),
            state: state_folder(args.state.or(table.state))?,
            node: args.node.or(table.node).unwrap_or_else(node_of_this_host),
            config: args.config,
            json: args.json,
        })
    }
}

/// Starts everything, waits for a signal or for a child's end, stops everything.
///
/// Must be awaited on the main thread: the children are tied to the thread that started them.
///
/// # Errors
/// Wrong options, a port in use, a program that is missing, a child that ended by itself.
pub async fn run(args: UpArgs) -> Result<()> {
    let plan = Plan::gather(args)?;
    let _lock = lock(&plan.state)?;
    let mut stop = StopSignals::listen()?;
    let mut children = Children::default();
    let outcome = start_and_watch(&plan, &mut children, &mut stop).await;
    children.stop().await;
    outcome
}

async fn start_and_watch(
    plan: &Plan,
    children: &mut Children,
    stop: &mut StopSignals,
) -> Result<()> {
    let broker = match &plan.broker {
        Some(url) => url.clone(),
        None => {
            let port = mosquitto::choose_port()?;
            children.spawn("mosquitto", mosquitto::command(&plan.state, port)?)?;
            if children.accepting("mosquitto", port, stop).await? == Started::Stopped {
                return Ok(());
            }
            format!("mqtt://127.0.0.1:{port}")
        }
    };

    let this_program = std::env::current_exe().context("cannot find the path of this program")?;
    let command = plan.serve(&this_program);
    if children
        .notified(
            "cloister serve",
            command,
            &plan.state,
            SERVE_READY_WITHIN,
            stop,
        )
        .await?
        == Started::Stopped
    {
        return Ok(());
    }
    let command = plan.bridge(&this_program, &broker);
    match children
        .notified(
            "cloister-bridge",
            command,
            &plan.state,
            BRIDGE_READY_WITHIN,
            stop,
        )
        .await?
    {
        Started::Ready => {}
        Started::Stopped => return Ok(()),
        Started::Slow => eprintln!(
            "cloister: the bridge has not reached the broker yet and goes on trying; the page works without it"
        ),
    }

    let endpoints = Endpoints {
        port: plan.port,
        broker: &broker,
        node: &plan.node,
    };
    if plan.json {
        println!("{}", endpoints.json());
    } else {
        println!("{}", endpoints.instructions());
    }
    children.watch(stop).await
}

impl Plan {
    fn socket(&self) -> PathBuf {
        self.state.join("cloister.sock")
    }

    fn serve(&self, program: &Path) -> Command {
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
        serve
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.port));
        serve
            .arg("--socket")
            .arg(self.socket())
            .arg("--state")
            .arg(&self.state);
        self.configured(serve)
    }

    fn bridge(&self, program: &Path, broker: &str) -> Command {
        let mut bridge = Command::new(program.with_file_name("cloister-bridge"));
        // By the environment, not as a flag: the URL may hold a password, and everybody may read flags.
        bridge.env("CLOISTER_BROKER", broker);
        bridge
            .arg("--socket")
            .arg(self.socket())
            .arg("--state")
            .arg(&self.state)
            .arg("--node")
            .arg(&self.node);
        self.configured(bridge)
    }

    fn configured(&self, mut command: Command) -> Command {
        if let Some(file) = &self.config {
            command.env("CLOISTER_CONFIG", file);
        }
        command
    }
}

/// Where the box can be asked.
struct Endpoints<'a> {
    port: u16,
    broker: &'a str,
    node: &'a str,
}

impl Endpoints<'_> {
    /// `{"page": URL, "broker": URL without password, "node": name, "topics": prefix}`, stable.
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "page": self.page(),
            "broker": format!("mqtt://{}", self.broker_place()),
            "node": self.node,
            "topics": format!("cloister/{}/", self.node),
        })
    }

    fn instructions(&self) -> String {
        let node = self.node;
        let place = self.broker_place();
        let (host, port) = place.rsplit_once(':').unwrap_or((place, "1883"));
        let (host, port) = if port.parse::<u16>().is_ok() {
            (host, port)
        } else {
            (place, "1883")
        };
        let host = host.trim_matches(['[', ']']);
        let login = if self.broker.contains('@') {
            " -u USER -P PASSWORD"
        } else {
            ""
        };
        let page = self.page();
        format!(
            "
  Page    {page}
  MQTT    mqtt://{place}
          cloister/{node}/ask           a question, as plain text or JSON
          cloister/{node}/answer/<id>   its answer
          cloister/{node}/stream/<id>   its pieces, when asked for
          cloister/{node}/cancel        the id of an ask to stop
          cloister/{node}/status        online or offline

  Ask over MQTT: paste the first line into one terminal, the second into another.
    mosquitto_sub -h {host} -p {port}{login} -v -t 'cloister/{node}/answer/#'
    mosquitto_pub -h {host} -p {port}{login} -t 'cloister/{node}/ask' -m 'What is a cloister?'

  Ctrl-C stops everything.
"
        )
    }

    fn page(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Host and port as written in the URL, without user and password.
    fn broker_place(&self) -> &str {
        let rest = self.broker.strip_prefix("mqtt://").unwrap_or(self.broker);
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        place.trim_end_matches('/')
    }
}

/// The state folder, made for its owner alone if it is not there, as an absolute path.
fn state_folder(given: Option<PathBuf>) -> Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder,
        None => std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".local/state")))
            .context("there is no home folder; say --state DIR")?
            .join("cloister"),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .and_then(|()| folder.canonicalize())
        .with_context(|| format!("cannot make the state folder {}", folder.display()))
}

/// Holds the state folder for this process; the kernel lets go of it when the process ends.
fn lock(state: &Path) -> Result<File> {
    let path = state.join("up.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "another `cloister up` uses the state folder {}; stop it, or choose another with --state DIR",
            state.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The port itself if it is free, any free one for 0.
fn free_port(port: u16) -> Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Ok(listener
            .local_addr()
            .context("cannot read a socket's port")?
            .port()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} on 127.0.0.1 is in use; stop the program that listens there, or choose another with --port N"
        ),
        Err(error) => {
            Err(error).with_context(|| format!("cannot listen on port {port} of 127.0.0.1"))
        }
    }
}

/// The host name, with `-` for what does not belong into one level of a topic.
fn node_of_this_host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = host
        .trim()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    if name.is_empty() || name == "pool" {
        "cloister".into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(broker: &str) -> Endpoints<'_> {
        Endpoints {
            port: 8080,
            broker,
            node: "attic",
        }
    }

    #[test]
    fn the_pasted_pair_names_the_real_port_and_node() {
        let text = endpoints("mqtt://127.0.0.1:1884").instructions();
        assert!(
            text.contains("mosquitto_sub -h 127.0.0.1 -p 1884 -v -t 'cloister/attic/answer/#'"),
            "{text}"
        );
        assert!(
            text.contains("mosquitto_pub -h 127.0.0.1 -p 1884 -t 'cloister/attic/ask'"),
            "{text}"
        );
    }

    #[test]
    fn the_brokers_password_is_never_printed() {
        let endpoints = endpoints("mqtt://me:s3cret@[::1]:1884/");
        let text = format!("{}{}", endpoints.instructions(), endpoints.json());
        assert!(!text.contains("s3cret"), "{text}");
        assert!(
            text.contains("-h ::1 -p 1884 -u USER -P PASSWORD"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_without_a_port_is_at_1883() {
        let text = endpoints("mqtt://broker.lan").instructions();
        assert!(text.contains("-h broker.lan -p 1883 -t"), "{text}");
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_port(port).unwrap_err().to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("--port"),
            "{error}"
        );
    }

    #[test]
    fn a_state_folder_serves_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).is_err());
        drop(first);
        lock(folder.path()).unwrap();
    }
}
