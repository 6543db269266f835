//! `cloister up`: everything that one machine needs, started and watched by one process.
//!
//! In: a model, where to listen, maybe a broker. Out: a Mosquitto on loopback unless a broker is given, then
//! `cloister serve`, then `cloister-bridge`, each awaited until it is ready, and a few lines that say
//! how to talk to them. When one ends, or a signal asks for it, all end.
//! Must never speak HTTP or MQTT itself, and must never leave a child behind, even when killed.

pub mod broker;
mod children;
mod endpoints;
pub mod home_network;
mod house_broker;
mod logins;
mod mosquitto;
mod plan;
mod rights;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloister_program::output;
use cloister_sandbox::processes;

pub use children::Ended;
use children::{Children, Started, StopSignals};
use endpoints::Endpoints;
use plan::Plan;

/// A large model on a slow card is read for minutes.
const SERVE_READY_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The broker answers at once or is down; then the page is of use without it.
const BRIDGE_READY_WITHIN: Duration = Duration::from_secs(10);

/// In place of the broker of our own, as long as its port is not chosen.
const NO_BROKER_YET: &str = "mqtt://127.0.0.1";

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
    /// Where the page listens [default: 127.0.0.1:8080]
    #[arg(long, env = "CLOISTER_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Let the home network reach the page: browsers that were paired, programs with a key
    #[arg(long, env = "CLOISTER_LAN")]
    lan: bool,
    /// Whether the page's port speaks TLS [default: true beyond loopback]
    #[arg(long, env = "CLOISTER_TLS", value_name = "true|false")]
    tls: Option<bool>,
    /// The page's port, in place of the one in --listen; 0 takes any that is free
    #[arg(long, env = "CLOISTER_PORT")]
    port: Option<u16>,
    /// A broker to use instead of a Mosquitto of our own: mqtt://host[:1883], mqtts://, ws:// or wss://; see docs/mqtt.md
    #[arg(
        long,
        env = "CLOISTER_BROKER",
        hide_env_values = true,
        value_name = "URL"
    )]
    broker: Option<String>,
    /// Let the home network reach the Mosquitto of our own, too: by TLS, with a login
    #[arg(long, env = "CLOISTER_LAN_BROKER")]
    lan_broker: bool,
    /// The Unix socket between `serve` and the bridge [default: STATE/cloister.sock]
    #[arg(long, env = "CLOISTER_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The folder for sockets and everything that survives a restart [default: ~/.local/state/cloister]
    #[arg(long, env = "CLOISTER_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The name in the topics cloister/<NODE>/... [default: the host name]
    #[arg(long, env = "CLOISTER_NODE")]
    node: Option<String>,
    /// A cloister.toml: [up] holds model, models, port, broker, state and node; the tables of `serve`
    /// and of the bridge hold their options
    #[arg(long, env = "CLOISTER_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Once everything is ready, print one line of JSON instead of the instructions
    #[arg(long)]
    json: bool,
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
    let this_program = std::env::current_exe().context("cannot find the path of this program")?;
    // The bridge starts last; a mistake in what it is given is told before a model is loaded for nothing.
    let mut look = plan.bridge(
        &this_program,
        plan.broker.as_deref().unwrap_or(NO_BROKER_YET),
    );
    look.arg("--check");
    Children::look("cloister-bridge", look)?;
    let (broker, own) = match &plan.broker {
        Some(url) => (url.clone(), None),
        None => {
            let own = plan.own_broker()?;
            (format!("mqtt://127.0.0.1:{}", own.port), Some(own))
        }
    };
    if let Some(own) = &own {
        children.spawn("mosquitto", own.command()?)?;
        if children.accepting("mosquitto", own.port, stop).await? == Started::Stopped {
            return Ok(());
        }
    }

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
    let mut command = plan.bridge(&this_program, &broker);
    if let Some(own) = &own {
        command.env("CLOISTER_LOGIN_FILE", &own.login);
    }
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

    let house = own.as_ref().and_then(|own| own.house.as_ref());
    let endpoints = Endpoints {
        listen: plan.listen,
        entrance: plan.entrance()?,
        house: house.map(|house| (house.port, house.login.as_path())),
        home_network: home_network::addresses(),
        broker: &broker,
        node: &plan.node,
    };
    if plan.json {
        output::print(endpoints.json())?;
    } else {
        output::print(endpoints.instructions())?;
    }
    // All is started: what is left is to wait, and to end it.
    let seal = processes::up().seal()?;
    if !seal.gaps().is_empty() {
        eprintln!("cloister: up: {}", seal.line());
    }
    children.watch(stop).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_serves_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).is_err());
        drop(first);
        lock(folder.path()).unwrap();
    }
}
