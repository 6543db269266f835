//! `cloister-panel`: light, buttons, privacy switch, fan, sensors, display, watchdog of the box.
//!
//! In: options. Out: what was found, with `probe`. Exit code 0 done, 2 for wrong use, 1 for anything else.
//! Must never use a network.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloister_panel::board::{self, Finding, Machine, Outcome};
use cloister_program::{command_line, panics};

/// Shows what the box does, takes presses of its buttons, and keeps it cool.
#[derive(Parser)]
#[command(name = "cloister-panel", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists which devices were found, what is missing, and what the panel would do.
    Probe {
        /// The board, by its name [default: found out].
        #[arg(long, env = "CLOISTER_BOARD", value_name = "NAME")]
        board: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    panics::tell_only_where("cloister-panel");
    let args: Args = command_line::parse();
    let Command::Probe { board, json } = args.command;
    match board::find(&Machine::this(), board.as_deref()) {
        Ok(board) if json => {
            let said = serde_json::json!({"board": board.name, "findings": board.findings});
            println!("{said}");
            ExitCode::SUCCESS
        }
        Ok(board) => {
            println!("board: {}", board.name);
            board.findings.iter().for_each(tell);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cloister-panel: {error}");
            ExitCode::from(2)
        }
    }
}

fn tell(finding: &Finding) {
    let (mark, words) = match &finding.outcome {
        Outcome::Found { does } => ("found  ", does),
        Outcome::Missing { why } => ("missing", why),
    };
    println!("{mark}  {:<14}  {}: {words}", finding.what, finding.place);
}
