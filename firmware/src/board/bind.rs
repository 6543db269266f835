//! Binds what a table names, and says what it looked for.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. What is there and does not answer keeps its
//! driver, which tries again; what is not there has none.

use std::time::Duration;

use cloister_control::device::{self, SocThrottle, Tachometer};

use super::buses::Buses;
use super::devices::{Fan, Name, Named, Power, Thermometer, Watchdog};
use super::{Board, Guard, Machine, Table, panel};
use crate::drivers::bus_thermometer::{Lm75, Tmp102, Tmp117};
use crate::drivers::emc::{Emc230x, Emc2101};
use crate::drivers::ina::{Ina219, Ina226};
use crate::drivers::sysfs::{Class, Device};
use crate::drivers::thermal::{CoolingFan, SlowedProcessor, Zone};
use crate::drivers::watchdog::{Dog, watchdogs};
use crate::drivers::{hwmon, thermal};

/// Binds all devices of a table.
pub fn devices(machine: &Machine, table: &Table, board: &mut Board) {
    let mut buses = Buses::new(machine);
    for thermometer in &table.devices.temperature {
        match thermometer {
            Thermometer::ThermalZone(named) => zones(machine, named, board),
            Thermometer::Hwmon(named) => chips(machine, named, board),
            Thermometer::Lm75(at) => buses.thermometer("LM75", at, board, Lm75::new),
            Thermometer::Tmp102(at) => buses.thermometer("TMP102", at, board, Tmp102::new),
            Thermometer::Tmp117(at) => buses.thermometer("TMP117", at, board, Tmp117::new),
        }
    }
    match &table.devices.power {
        Some(Power::Hwmon { names, channel }) => {
            power(machine, names, channel.as_deref(), board);
        }
        Some(Power::Ina219(at)) => buses.power("INA219", at, board, Ina219::new),
        Some(Power::Ina226(at)) => buses.power("INA226", at, board, |bus, address, shunt| {
            Some(Ina226::new(bus, address, shunt))
        }),
        None => board.missing("power", NOT_NAMED, NOBODY),
    }
    match &table.devices.fan {
        Some(Fan::Hwmon {
            name,
            channel,
            tachometer,
        }) => hwmon_fan(machine, name, *channel, tachometer.as_ref(), board),
        Some(Fan::CoolingDevice { name }) => cooling_fan(machine, name, board),
        Some(Fan::Emc2101 { bus, address }) => buses.fan("EMC2101", bus, *address, board, Emc2101),
        Some(Fan::Emc230x {
            bus,
            address,
            channel,
        }) => {
            // One of number 0 is none, as the controller says.
            let fan = channel.wrapping_sub(1);
            buses.fan("EMC230x", bus, *address, board, Emc230x { fan });
        }
        None => board.missing("fan", NOT_NAMED, NOBODY),
    }
    match &table.devices.light {
        Some(light) => panel::light(machine, light, board),
        None => board.missing("light", NOT_NAMED, NOBODY),
    }
    match &table.devices.button {
        Some(line) => panel::button(machine, line, board),
        None => board.missing("button", NOT_NAMED, NOBODY),
    }
    match &table.devices.privacy_switch {
        Some(line) => panel::privacy_switch(machine, line, board),
        None => board.missing("privacy switch", NOT_NAMED, NOBODY),
    }
    match &table.devices.display {
        Some(display) => buses.display(display, board),
        None => board.missing("display", NOT_NAMED, NOBODY),
    }
    match &table.devices.watchdog {
        Some(wanted) => watchdog(machine, wanted, board),
        None => board.missing("watchdog", NOT_NAMED, NOBODY),
    }
}

/// Binds what the kernel tells about slowing the processor down.
pub fn slowed_processor(machine: &Machine, board: &mut Board) {
    let place = "cooling device cpufreq-* or Processor";
    let Some(mut processor) = SlowedProcessor::of(machine) else {
        return board.missing("throttling", place, "the kernel has none");
    };
    for device in processor.devices() {
        board.reads.extend(device.reads());
    }
    let does = "tells when the kernel slows the processor because of heat";
    board.tried("throttling", place, processor.read().map(|_| does.into()));
    board.soc = Some(Box::new(processor));
}

fn zones(machine: &Machine, named: &Named, board: &mut Board) {
    let zones = all(&thermal::devices(machine), &named.names);
    thermometers("zone", zones, named, board, |device| Box::new(Zone(device)));
}

fn chips(machine: &Machine, named: &Named, board: &mut Board) {
    let chips = all(&hwmon::chips(machine), &named.names);
    thermometers("chip", chips, named, board, |chip| {
        Box::new(hwmon::Temperature { chip, channel: 1 })
    });
}

fn thermometers(
    kind: &str,
    found: Vec<Device>,
    named: &Named,
    board: &mut Board,
    driver: impl Fn(Device) -> Box<dyn device::Thermometer>,
) {
    if found.is_empty() {
        board.missing("temperature", &place(kind, &named.names), NONE);
    }
    for device in found {
        let name = device.name().to_owned();
        let place = format!("{kind} {name}");
        board.reads.extend(device.reads());
        board.thermometer(&place, name, named.limit, named.on_die, driver(device));
    }
}

fn power(machine: &Machine, names: &[Name], channel: Option<&str>, board: &mut Board) {
    let place = place("chip", names);
    let chips = all(&hwmon::chips(machine), names);
    if chips.is_empty() {
        return board.missing("power", &place, NONE);
    }
    let meters: Vec<_> = chips
        .into_iter()
        .filter_map(|chip| Some((chip.reads(), hwmon::Power::of(chip, channel)?)))
        .collect();
    match <[_; 1]>::try_from(meters) {
        Ok([(read, mut meter)]) => {
            let reads = device::PowerMeter::read(&mut meter);
            let reads = reads.map(|now| format!("accounts for energy; now {now}"));
            board.tried("power", &place, reads);
            board.reads.extend(read);
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
            board.reads.extend(chip.reads());
            board.writes.push(chip.stays_in());
            fan(board, &place, Box::new(hwmon::Fan::of(chip, channel)));
        }
        Err(why) => board.missing("fan", &place, why),
    }
    let name = tachometer.unwrap_or(name);
    let place = format!("chip {name}");
    let speed = one(&hwmon::chips(machine), name).and_then(|chip| {
        let read = chip.reads();
        let speed = hwmon::FanSpeed::of(chip, channel);
        Ok((read, speed.ok_or("it does not measure a fan's speed")?))
    });
    match speed {
        Ok((read, mut speed)) => {
            let reads = speed
                .read()
                .map(|now| format!("sees whether it turns; now {now}"));
            board.tried("fan speed", &place, reads);
            board.reads.extend(read);
            board.tachometer = Some(Box::new(speed));
        }
        Err(why) => board.missing("fan speed", &place, why),
    }
}

fn cooling_fan(machine: &Machine, name: &Name, board: &mut Board) {
    let place = format!("cooling device {name}");
    match one(&thermal::devices(machine), name) {
        Ok(device) => {
            board.reads.extend(device.reads());
            // Not what it stays in: all cooling devices and zones lie there.
            board.writes.push(device.at().to_owned());
            fan(board, &place, Box::new(CoolingFan::of(device)));
        }
        Err(why) => board.missing("fan", &place, why),
    }
}

/// Gives a board its fan. It is not tried: whether it turns is what the law looks at.
fn fan(board: &mut Board, place: &str, fan: Box<dyn device::FanDrive>) {
    board.found("fan", place, "cools with it");
    board.fan = Some(fan);
}

/// Only looks at it: opening it would start it.
fn watchdog(machine: &Machine, wanted: &Watchdog, board: &mut Board) {
    let place = format!("watchdog {}", wanted.identity);
    let mut device = match one(&watchdogs(machine), &wanted.identity) {
        Ok(device) => device,
        Err(why) => return board.missing("watchdog", &place, why),
    };
    let longest = device.read("max_timeout").unwrap_or(0);
    let seconds = match i64::from(wanted.timeout_seconds.max(2)) {
        wanted if longest > 0 => wanted.min(longest),
        wanted => wanted,
    };
    let dog = Dog::new(machine, &device, seconds as i32);
    let stays = match device.read("nowayout") {
        Ok(1) => "; once started it cannot be stopped",
        _ => "",
    };
    let does = format!("resets the machine when it was not fed for {seconds} s{stays}");
    match dog.node().exists() {
        true => board.found("watchdog", &place, &does),
        false => board.missing("watchdog", &place, "its device is not there"),
    }
    board.watchdog = Some(Guard {
        device: Box::new(dog),
        timeout: Duration::from_secs(seconds as u64),
    });
}

const NOT_NAMED: &str = "this board";
const NOBODY: &str = "neither its table nor the owner names one";
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
