//! `cloister`: the private AI box. `up` starts everything one machine needs, `broker` its Mosquitto alone, `serve` answers over
//! HTTP, `warm` prepares it, `pair` and `keys` say who may ask from the network, `bench` times the model. There is no network client in this program's tree.

// A reader that goes away must not end a program; `output::print` lets it go.
#![deny(clippy::print_stdout)]

mod access;
mod bench;
mod helper;
mod rehearsal;
mod renderer;
mod serve;
mod settings;
mod up;

use clap::{Parser, Subcommand};
use cloister_program::{command_line, panics, private};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

/// A private AI box for the home.
#[derive(Parser)]
#[command(name = "cloister", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a broker, the engine and the MQTT bridge on this machine.
    Up(up::UpArgs),
    /// Become the Mosquitto that `up` starts, where systemd starts the parts.
    Broker(up::broker::BrokerArgs),
    /// Answer over HTTP, on a TCP port and on a Unix socket.
    Serve(serve::ServeArgs),
    /// Store what the model makes of templates, so that no request waits for it.
    Warm(WarmArgs),
    /// Show a code by which a browser of the network is let in.
    Pair(access::commands::PairArgs),
    /// Say which programs of the network may ask.
    Keys(access::commands::KeysArgs),
    /// Time the model: a prompt of P tokens, then N tokens one by one.
    Bench(bench::BenchArgs),
}

/// Options of `cloister warm`: those of `serve`, which must be the same for what is stored to be used.
#[derive(clap::Args)]
struct WarmArgs {
    /// Files of templates: text is a system message; what ends in .json is a request of /v1/chat/completions,
    /// of which its system messages and tools count.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<std::path::PathBuf>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

fn main() -> std::process::ExitCode {
    panics::tell_only_where("cloister");
    cloister_wipe::on_free();
    let cli: Cli = command_line::parse();
    private::begin();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("CLOISTER_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .finish()
        // Our own lines, and llama.cpp's, which tell of models: the records of other libraries show what they are given,
        // as that which makes HTML of answers.
        .with(filter_fn(|record| {
            record.target().starts_with("cloister") || record.target() == "llama"
        }));
    tracing::subscriber::set_global_default(log).expect("there is no other log");
    let result = match cli.command {
        Command::Up(args) => one_thread().and_then(|rt| rt.block_on(up::run(args))),
        Command::Broker(args) => up::broker::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Warm(args) => serve::warm(args.serve, &args.files),
        Command::Pair(args) => access::commands::pair(&args),
        Command::Keys(args) => access::commands::keys(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let said = error.downcast_ref::<up::Ended>().and_then(up::Ended::said);
            if let Some(code) = said {
                return code.into();
            }
            eprintln!("cloister: {error:#}");
            let code = if error.is::<settings::WrongUse>() {
                2
            } else {
                1
            };
            std::process::ExitCode::from(code)
        }
    }
}

/// What has one thread may do more in a child before that becomes another program, and can be sealed.
fn one_thread() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Two threads carry the HTTP side; the cores belong to the model.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Each thread would have an arena of its own, up to eight for each core, and keep megabytes in it.
    // SAFETY: it sets a number of the C library's.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}
