//! `cloister broker`: the Mosquitto that `up` starts, alone, where systemd starts the parts.
//!
//! In: a state folder, the name of the box, maybe the certificate of `serve`. Out: nothing: this process becomes Mosquitto.
//! Its ports are the usual ones; the house's is not open while there is no certificate. Must never make the certificate,
//! which `serve` could not read if another user had made it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cloister_program::node::Node;
use cloister_program::readiness::Readiness;

use super::house_broker::{self, HouseBroker};
use super::mosquitto::{self, OwnBroker};
use super::rights::Rights;
use crate::settings::{self, WrongUse};

/// Options of `cloister broker`.
#[derive(clap::Args)]
pub struct BrokerArgs {
    /// Let the home network reach it, too: on port 8883, by TLS, with the login in STATE/mqtt-login
    #[arg(long, env = "CLOISTER_LAN_BROKER", requires = "serve_state")]
    lan_broker: bool,
    /// The state folder of `serve`, which has the certificate for the home network
    #[arg(long, env = "CLOISTER_SERVE_STATE", value_name = "DIR")]
    serve_state: Option<PathBuf>,
    /// The folder for the logins, among them the bridge's, bridge-login [default: ~/.local/state/cloister]
    #[arg(long, env = "CLOISTER_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The name in the topics cloister/<NODE>/... [default: the host name]
    #[arg(long, env = "CLOISTER_NODE")]
    node: Option<String>,
    /// The cloister.toml that the bridge is started with
    #[arg(long, env = "CLOISTER_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

/// Of `[bridge]`: how the box is called.
#[derive(Default, serde::Deserialize)]
struct Table {
    node: Option<String>,
}

/// Makes the logins and becomes Mosquitto. It is ready when they are there: Mosquitto itself may tell nobody.
///
/// # Errors
/// Wrong options; folders that cannot be read or written; Mosquitto is not installed.
pub fn run(args: BrokerArgs) -> Result<()> {
    let config = args.config.as_deref();
    let table: Table = settings::table(config, "bridge")?;
    let node = match args.node.or(table.node) {
        Some(name) => Node::parse(&name).map_err(WrongUse)?,
        None => Node::of_this_host(),
    };
    let state = settings::state_folder(args.state)?;
    let rights = Rights::gather(&node, config)?;
    let certificate = args.serve_state.filter(|_| args.lan_broker);
    let certificate = certificate.map(|serve| serve.join("tls"));
    let house = match &certificate {
        // The box's own bridge needs the broker all the same.
        Some(folder) if !folder.join("cert.pem").exists() => {
            eprintln!(
                "cloister: the broker is for this machine alone: `serve` makes the certificate for the home network when it \
                 first starts; then start the broker again"
            );
            None
        }
        folder => folder
            .as_deref()
            .map(|folder| HouseBroker::prepare(&state, folder, house_broker::USUAL_PORT))
            .transpose()?,
    };
    let port = mosquitto::USUAL_PORTS[0];
    let mut command = OwnBroker::prepare(&state, &rights, house, port)?.command()?;
    Readiness::prepare()
        .and_then(|ready| ready.tell())
        .context("cannot tell systemd")?;
    command.env_remove("NOTIFY_SOCKET");
    Err(command.exec()).context("cannot start Mosquitto")
}
