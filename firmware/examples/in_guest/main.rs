//! The drivers on a real kernel: simulated GPIO lines, an emulated thermometer and fan, a software watchdog, an LED of a
//! keyboard.
//! For `tests/firmware/guest`, which starts it as root in a guest that has these; one line for each thing that holds.
//!
//!     in_guest          tries everything, sealed at the end as the panel is
//!     in_guest crash    starts the watchdog, and dies without stopping it
//!     in_guest serve    listens where `serve` does, and does so anew after the first who connects

mod chips;
mod looking;
mod simulations;
mod sockets;
mod working;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cloister_panel::board::devices::Devices;
use cloister_panel::board::{Machine, find_wired};

use simulations::{Lines, adapter, is, read};

/// What is wired in the guest.
const WIRED: &str = r#"
light = { driver = "gpio", chip = "pinctrl-rp1", lines = [0, 1, 2] }
button = { chip = "pinctrl-rp1", line = 3 }
privacy-switch = { chip = "pinctrl-rp1", line = 4, to-ground = false }
watchdog = { identity = "Software Watchdog", timeout-seconds = 60 }
"#;

const DOG: &str = "/sys/class/watchdog/watchdog0/state";

fn main() {
    let word = std::env::args().nth(1);
    if word.as_deref() == Some("serve") {
        return sockets::listen_twice();
    }
    let crash = word.as_deref() == Some("crash");
    let mut wired = WIRED.to_owned();
    if crash {
        wired = wired.replace("timeout-seconds = 60", "timeout-seconds = 4");
    }
    if chips::HERE {
        wired += chips::WIRED;
    }
    let devices: Devices = toml::from_str(&wired).expect("the wiring is right");
    if crash {
        let mut board = find_wired(&Machine::this(), None, devices).expect("there is a board");
        let dog = board.watchdog.as_mut().expect("a watchdog");
        is(
            dog.ask(|dog| dog.feed()),
            Some(Ok(())),
            "the watchdog starts",
        );
        std::process::abort();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    looking::leds();
    if chips::HERE {
        chips::bus();
    }
    looking::rights();
    let find = || find_wired(&Machine::this(), None, devices.clone()).expect("there is a board");
    let mut board = find();
    for finding in &board.findings {
        println!(
            "     {}: {}: {:?}",
            finding.what, finding.place, finding.outcome
        );
    }
    looking::everything_is_found(&board);
    looking::taken();
    looking::look_and_watchdog(&mut board);
    let lines = Lines::of_the_simulation();
    runtime.block_on(working::all(&mut board, &lines, "open"));
    // Its threads end: who has some cannot be sealed.
    let folders = std::mem::take(&mut board.folders);
    drop(board);
    let mut serve = sockets::serve();
    seal(&folders);
    let mut board = find();
    sockets::reach();
    serve.wait().expect("it ends by itself");
    runtime.block_on(working::all(&mut board, &lines, "sealed"));
    runtime.block_on(working::unplugged(&mut board));
    drop(board);
    if chips::HERE {
        chips::given_back();
    }
    is(
        read(DOG),
        "inactive",
        "a panel that ends stops the watchdog",
    );
    println!("in_guest: everything holds");
}

fn seal(folders: &BTreeSet<&str>) {
    let mut policy = cloister_sandbox::processes::panel(Path::new(sockets::SOCKET));
    // What this program itself does: pulling lines, and looking at what came of it.
    policy = policy
        .write("/sys/kernel/config")
        .write("/sys/devices/platform");
    if chips::HERE {
        policy = policy
            .write(adapter().join("new_device"))
            .write(adapter().join("delete_device"));
    }
    for folder in folders {
        policy = policy.devices(folder);
    }
    let seal = policy.seal().expect("it can be sealed");
    println!("     {}", seal.line());
    is(
        (seal.calls, seal.landlock > 0),
        (true, true),
        "it is sealed",
    );
    let opened = fs::File::create("/run/made").map(drop);
    is(opened.is_err(), true, "and makes no file");
}
