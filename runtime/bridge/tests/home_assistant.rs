//! The box in a real Home Assistant core, with a real Mosquitto and real models: only `tests/run --all` runs
//! this, by its name, where there is a Python for Home Assistant. `CLOISTER_HOME_ASSISTANT` is its environment.

#[path = "end_to_end/parts/mod.rs"]
#[allow(dead_code, unused_imports)] // The other end-to-end tests use the rest.
mod parts;

use std::path::Path;
use std::process::Command;

use parts::{Bridge, Broker, Engine, documented, smollm2, tiny_r1};
use tempfile::TempDir;

/// Runs a script of the folder beside this file.
fn script(name: &str, arguments: &[&str]) {
    let python = std::env::var_os("CLOISTER_HOME_ASSISTANT")
        .expect("CLOISTER_HOME_ASSISTANT names a Python environment that has homeassistant");
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/home_assistant")
        .join(name);
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(Path::new(&python).join("bin/python"))
        .arg(script)
        .args(arguments)
        .status();
    assert!(status.unwrap().success(), "{name} failed");
}

#[test]
fn the_automations_of_the_documentation_ask_and_hear_the_answers() {
    let folder = TempDir::new().unwrap();
    let _engine = Engine::start(folder.path());
    let broker = Broker::start();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    script(
        "automations.py",
        &[
            &broker.port.to_string(),
            home.to_str().unwrap(),
            documented("home-assistant.yaml").to_str().unwrap(),
        ],
    );
}

#[test]
fn home_assistant_finds_the_box_by_itself_and_what_it_shows_is_so() {
    let folder = TempDir::new().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    tiny_r1(&models);
    let smollm2 = smollm2();
    std::os::unix::fs::symlink(&smollm2, models.join(smollm2.file_name().unwrap())).unwrap();
    let sensors = [
        ("thermal/thermal_zone0/type", "cpu-thermal"),
        ("thermal/thermal_zone0/temp", "51234"),
        ("hwmon/hwmon0/name", "ina226"),
        ("hwmon/hwmon0/power1_input", "6100000"),
    ];
    let engine = Engine::start_on_board(&models, folder.path(), &sensors);
    let broker = Broker::start();
    let bridge = Bridge::start_online(&broker, folder.path(), "5");
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    script(
        "entities.py",
        &[
            &broker.port.to_string(),
            home.to_str().unwrap(),
            &bridge.process.id().to_string(),
            engine.socket.to_str().unwrap(),
        ],
    );
}
