//! Binds what a table names, and says what it looked for.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. What is there and does not answer keeps its
//! driver, which tries again; what is not there has none.

use cloister_control::device::{self, Fault, SocThrottle, Tachometer};
use cloister_control::units::Celsius;

use super::devices::{Fan, Name, Named, Power, Thermometer};
use super::{Board, Finding, Machine, Outcome, Sensor, Table, panel};
use crate::drivers::sysfs::{Class, Device};
use crate::drivers::thermal::{CoolingFan, SlowedProcessor, Zone};
use crate::drivers::{advice, hwmon, thermal};

/// Binds all devices of a table.
pub fn devices(machine: &Machine, table: &Table, board: &mut Board) {
    for thermometer in &table.devices.temperature {
        temperature(machine, thermometer, board);
    }
    match &table.devices.power {
        Some(Power::Hwmon { names, channel }) => {
            power(machine, names, channel.as_deref(), board);
        }
        None => board.missing("power", "this board", "its table names no meter"),
    }
    match &table.devices.fan {
        Some(Fan::Hwmon {
            name,
            channel,
            tachometer,
        }) => hwmon_fan(machine, name, *channel, tachometer.as_ref(), board),
        Some(Fan::CoolingDevice { name }) => cooling_fan(machine, name, board),
        None => board.missing("fan", "this board", "its table names no fan"),
    }
    match &table.devices.light {
        Some(light) => panel::light(machine, light, board),
        None => board.missing("light", "this board", "its table names none"),
    }
    match &table.devices.button {
        Some(line) => panel::button(machine, line, board),
        None => board.missing("button", "this board", "its table names none"),
    }
    match &table.devices.privacy_switch {
        Some(line) => panel::privacy_switch(machine, line, board),
        None => board.missing("privacy switch", "this board", "its table names none"),
    }
}

/// Binds what the kernel tells about slowing the processor down.
pub fn slowed_processor(machine: &Machine, board: &mut Board) {
    let place = "cooling device cpufreq-* or Processor";
    let Some(mut processor) = SlowedProcessor::of(machine) else {
        return board.missing("throttling", place, "the kernel has none");
    };
    for device in processor.devices() {
        board.reads.push(device.stays_in());
    }
    let does = "tells when the kernel slows the processor because of heat";
    board.tried("throttling", place, processor.read().map(|_| does.into()));
    board.soc = Some(Box::new(processor));
}

fn temperature(machine: &Machine, which: &Thermometer, board: &mut Board) {
    let (class, kind, named) = match which {
        Thermometer::ThermalZone(named) => (thermal::devices(machine), "zone", named),
        Thermometer::Hwmon(named) => (hwmon::chips(machine), "chip", named),
    };
    let found = all(&class, &named.names);
    if found.is_empty() {
        board.missing("temperature", &place(kind, &named.names), NONE);
    }
    for device in found {
        let name = device.name().to_owned();
        board.reads.push(device.stays_in());
        let device: Box<dyn device::Thermometer> = match which {
            Thermometer::ThermalZone(_) => Box::new(Zone(device)),
            Thermometer::Hwmon(_) => Box::new(hwmon::Temperature {
                chip: device,
                channel: 1,
            }),
        };
        thermometer(board, &format!("{kind} {name}"), name, named, device);
    }
}

/// Adds a thermometer to a board.
fn thermometer(
    board: &mut Board,
    place: &str,
    name: String,
    named: &Named,
    mut device: Box<dyn device::Thermometer>,
) {
    let reads = device.read().map(|now| format!("cools by it; now {now}"));
    board.tried("temperature", place, reads);
    board.thermometers.push(Sensor {
        name,
        limit: named.limit.map_or(board.limits.limit, Celsius),
        on_die: named.on_die,
        device,
    });
}

fn power(machine: &Machine, names: &[Name], channel: Option<&str>, board: &mut Board) {
    let place = place("chip", names);
    let chips = all(&hwmon::chips(machine), names);
    if chips.is_empty() {
        return board.missing("power", &place, NONE);
    }
    let meters: Vec<_> = chips
        .into_iter()
        .filter_map(|chip| Some((chip.stays_in(), hwmon::Power::of(chip, channel)?)))
        .collect();
    match <[_; 1]>::try_from(meters) {
        Ok([(folder, mut meter)]) => {
            let reads = device::PowerMeter::read(&mut meter);
            let reads = reads.map(|now| format!("accounts for energy; now {now}"));
            board.tried("power", &place, reads);
            board.reads.push(folder);
            board.power = Some(Box::new(meter));
        }
        Err(meters) if meters.is_empty() => {
            let why = match channel {
                Some(label) => format!("it has no channel that is called {label}"),
                None => "it does not measure power".into(),
            };
            board.missing("power", &place, &why);
        }
        Err(_) => board.missing("power", &place, SEVERAL),
    }
}

fn hwmon_fan(
    machine: &Machine,
    name: &Name,
    channel: u8,
    tachometer: Option<&Name>,
    board: &mut Board,
) {
    let pwm = format!("pwm{channel}");
    let place = format!("chip {name}, {pwm}");
    match one(&hwmon::chips(machine), name) {
        Ok(chip) if !chip.has(&pwm) => {
            board.missing(
                "fan",
                &place,
                "it drives none: this kernel has no PWM for it",
            );
        }
        Ok(chip) => {
            board.writes.push(chip.stays_in());
            fan(board, &place, Box::new(hwmon::Fan::of(chip, channel)));
        }
        Err(why) => board.missing("fan", &place, why),
    }
    let name = tachometer.unwrap_or(name);
    let place = format!("chip {name}");
    let speed = one(&hwmon::chips(machine), name).and_then(|chip| {
        let folder = chip.stays_in();
        let speed = hwmon::FanSpeed::of(chip, channel);
        Ok((folder, speed.ok_or("it does not measure a fan's speed")?))
    });
    match speed {
        Ok((folder, mut speed)) => {
            let reads = speed
                .read()
                .map(|now| format!("sees whether it turns; now {now}"));
            board.tried("fan speed", &place, reads);
            board.reads.push(folder);
            board.tachometer = Some(Box::new(speed));
        }
        Err(why) => board.missing("fan speed", &place, why),
    }
}

fn cooling_fan(machine: &Machine, name: &Name, board: &mut Board) {
    let place = format!("cooling device {name}");
    match one(&thermal::devices(machine), name) {
        Ok(device) => {
            // All cooling devices lie in one folder of the kernel's.
            board.writes.push(device.at().to_owned());
            fan(board, &place, Box::new(CoolingFan(device)));
        }
        Err(why) => board.missing("fan", &place, why),
    }
}

/// Gives a board its fan. It is not tried: that it turns is what the law looks at.
fn fan(board: &mut Board, place: &str, fan: Box<dyn device::FanDrive>) {
    board.found("fan", place, "cools with it");
    board.fan = Some(fan);
}

const NONE: &str = "there is none";
const SEVERAL: &str = "there are several, and nothing says which";

fn place(kind: &str, names: &[Name]) -> String {
    let names: Vec<_> = names.iter().map(Name::to_string).collect();
    format!("{kind} {}", names.join(" or "))
}

/// The devices of any of these names.
fn all(class: &Class, names: &[Name]) -> Vec<Device> {
    class.devices(|name| names.iter().any(|wanted| wanted.is(name)))
}

/// The only device of this name.
fn one(class: &Class, name: &Name) -> Result<Device, &'static str> {
    let found = class.devices(|called| name.is(called));
    match <[_; 1]>::try_from(found) {
        Ok([device]) => Ok(device),
        Err(found) if found.is_empty() => Err(NONE),
        Err(_) => Err(SEVERAL),
    }
}

impl Board {
    fn finds(&mut self, what: &'static str, place: &str, outcome: Outcome) {
        self.findings.push(Finding {
            what,
            place: place.to_owned(),
            outcome,
        });
    }

    /// Something is there, and this is what it is for.
    pub(super) fn found(&mut self, what: &'static str, place: &str, does: &str) {
        let does = does.to_owned();
        self.finds(what, place, Outcome::Found { does });
    }

    /// Something is not, for this reason.
    pub(super) fn missing(&mut self, what: &'static str, place: &str, why: &str) {
        let why = why.to_owned();
        self.finds(what, place, Outcome::Missing { why });
    }

    /// Something was tried.
    pub(super) fn tried(&mut self, what: &'static str, place: &str, does: Result<String, Fault>) {
        match does {
            Ok(does) => self.found(what, place, &does),
            Err(fault) => self.missing(what, place, advice(fault)),
        }
    }
}
