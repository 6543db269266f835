//! Runs the whole appliance in a network of its own whose only way out is a sinkhole, and shows what leaves it.
//!
//! `sinkhole [--leak dns|udp|tcp]`. Exit code 0 if nothing left but on the broker's connection and the clients'; 1 if
//! something did; 2 for wrong use; 3 where this machine cannot make such a network.

use std::process::ExitCode;

use cloister_tests::sinkhole::appliance::{Leak, live};
use cloister_tests::sinkhole::capture::Capture;
use cloister_tests::sinkhole::namespaces;
use cloister_tests::sinkhole::packets::Whose;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let leak = match words[..] {
        [] => None,
        ["--leak", word] => match Leak::named(word) {
            Some(leak) => Some(leak),
            None => return wrong_use(),
        },
        _ => return wrong_use(),
    };
    // Before any thread is there: a process with several cannot get a user namespace.
    let inside = match namespaces::enter() {
        Ok(inside) => inside,
        Err(error) => {
            eprintln!("sinkhole: NOTHING WAS CHECKED: {error}");
            return ExitCode::from(3);
        }
    };
    let capture = match Capture::begin(&inside) {
        Ok(capture) => capture,
        Err(error) => {
            eprintln!("sinkhole: NOTHING WAS CHECKED: no packets can be captured: {error}");
            return ExitCode::from(3);
        }
    };
    live(&inside, leak);
    let seen = capture.end().expect("packets can be read");
    println!(
        "packets that left the box: {} to its clients, {} to its broker, {} of the kernel to find these two; \
         {} that were not to leave; {} that could not be watched",
        seen.of(Whose::Client),
        seen.of(Whose::Broker),
        seen.of(Whose::Kernel),
        seen.of(Whose::Leak),
        seen.lost
    );
    // Without packets of both kinds nothing would have been watched.
    let watched = seen.of(Whose::Client) > 0 && seen.of(Whose::Broker) > 0 && seen.lost == 0;
    match watched && seen.of(Whose::Leak) == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn wrong_use() -> ExitCode {
    eprintln!("usage: tests/sinkhole [--leak dns|udp|tcp]");
    ExitCode::from(2)
}
