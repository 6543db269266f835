//! Binds what a table names, and says what it looked for.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. What is there and does not answer keeps its
//! driver, which tries again; what is not there is opened when it comes.

use cloister_control::device::{self, FanDrive, Fault, PowerMeter, SocThrottle, Tachometer};
use cloister_sysfs::class::{Class, Device};
use cloister_sysfs::thermal::CoolingFan;
use cloister_sysfs::{hwmon, thermal};

use super::aside::Aside;
use super::buses::Buses;
use super::devices::{Devices, Fan, Name, Power, Thermometer, Watchdog};
use super::findings::{NONE, SEES_IT_TURN};
use super::thermometers::Sought;
use super::{Board, Late, Machine, Table, panel};
use crate::drivers::advice;
use crate::drivers::bus_thermometer::{Lm75, Tmp102, Tmp117};
use crate::drivers::emc::{Emc230x, Emc2101};
use crate::drivers::ina::{Ina219, Ina226};
use crate::drivers::watchdog::{Dog, watchdogs};

/// Binds all devices of a table.
pub fn devices(machine: &Machine, table: &Table, board: &mut Board) {
    let devices = &table.devices;
    let mut buses = Buses::new(machine);
    for (n, thermometer) in devices.temperature.iter().enumerate() {
        let wired = n < devices.wired_thermometers;
        match thermometer {
            Thermometer::ThermalZone(named) => {
                let zones = (thermal::zones(machine), thermal::PROCESSORS);
                Sought::new("zone", zones, named, wired).look(board);
            }
            Thermometer::Hwmon(named) => {
                let chips = (hwmon::chips(machine), hwmon::PROCESSORS);
                Sought::new("chip", chips, named, wired).look(board);
            }
            Thermometer::Lm75(at) => buses.thermometer("LM75", (at, wired), board, Lm75::new),
            Thermometer::Tmp102(at) => buses.thermometer("TMP102", (at, wired), board, Tmp102::new),
            Thermometer::Tmp117(at) => buses.thermometer("TMP117", (at, wired), board, Tmp117::new),
        }
    }
    match &devices.power {
        Some(Power::Hwmon { names, channel }) => {
            let names = Name::or(names, hwmon::SUPPLIES);
            power(machine, devices, &names, channel.as_deref(), board);
        }
        Some(Power::Ina219(at)) => buses.power("INA219", at, board, Ina219::new),
        Some(Power::Ina226(at)) => buses.power("INA226", at, board, Ina226::new),
        None => board.missing("power", NOT_NAMED, NOBODY),
    }
    match &devices.fan {
        Some(Fan::Hwmon {
            name,
            channel,
            tachometer,
        }) => {
            hwmon_fan(machine, devices, name, channel.get(), board);
            hwmon_fan_speed(
                machine,
                tachometer.as_ref().unwrap_or(name),
                channel.get(),
                board,
            );
        }
        Some(Fan::CoolingDevice { name }) => cooling_fan(machine, devices, name, board),
        Some(Fan::Emc2101 { bus, address }) => buses.fan("EMC2101", bus, *address, board, Emc2101),
        Some(Fan::Emc230x {
            bus,
            address,
            channel,
        }) => {
            let fan = channel.get() - 1;
            buses.fan("EMC230x", bus, *address, board, Emc230x { fan });
        }
        None => board.missing("fan", NOT_NAMED, NOBODY),
    }
    match &devices.light {
        Some(light) => panel::light(machine, light, devices.is_wired("light"), board),
        None => board.missing("light", NOT_NAMED, NOBODY),
    }
    match &devices.button {
        Some(line) => panel::button(machine, line, board),
        None => board.missing("button", NOT_NAMED, NOBODY),
    }
    match &devices.privacy_switch {
        Some(line) => panel::privacy_switch(machine, line, board),
        None => board.missing("privacy switch", NOT_NAMED, NOBODY),
    }
    match &devices.display {
        Some(display) => buses.display(display, board),
        None => board.missing("display", NOT_NAMED, NOBODY),
    }
    match &devices.watchdog {
        Some(wanted) => watchdog(machine, wanted, devices.is_wired("watchdog"), board),
        None => board.missing("watchdog", NOT_NAMED, NOBODY),
    }
}

/// Binds what tells that the processor is slowed because of heat, by `whom`.
pub fn slowed<S: SocThrottle + 'static>(
    machine: &Machine,
    board: &mut Board,
    (place, why): (&str, &str),
    whom: &str,
    find: fn(&Machine) -> Option<S>,
) {
    let machine = machine.clone();
    let mut slowed = Late::new(false, move || {
        let found = find(&machine).ok_or(Fault::Absent)?;
        Ok(Box::new(found) as Box<dyn SocThrottle>)
    });
    let does = format!("tells when the {whom} slows the processor because of heat");
    board.asks("throttling", place, &mut slowed, why, |slowed| {
        slowed.read().map(|_| does)
    });
    board.soc = Some(slowed);
}

fn power(
    machine: &Machine,
    devices: &Devices,
    names: &[Name],
    channel: Option<&str>,
    board: &mut Board,
) {
    let place = place("chip", names);
    let (class, named) = (hwmon::chips(machine), names.to_vec());
    let label = channel.map(str::to_owned);
    let find = move || {
        let chips = all(&class, &named).into_iter();
        only(chips.filter_map(|chip| hwmon::Power::of(chip, label.as_deref())))
    };
    let why = match (all(&hwmon::chips(machine), names).is_empty(), channel) {
        (true, _) => NONE.into(),
        (false, Some(label)) => format!("it has no channel that is called {label}"),
        (false, None) => "it does not measure power".into(),
    };
    let open = find.clone();
    let meter = board.reads(
        "power",
        "accounts for energy",
        (&place, &why),
        move || open().map(Box::new),
        PowerMeter::read,
    );
    let (wired, there) = (devices.is_wired("power"), move || find().map(drop));
    board.power = Some(meter.late(wired, there, |meter| Box::new(meter)));
}

fn hwmon_fan(machine: &Machine, devices: &Devices, name: &Name, channel: u8, board: &mut Board) {
    let pwm = format!("pwm{channel}");
    let place = format!("chip {name}, {pwm}");
    let why = match one(&hwmon::chips(machine), name) {
        Ok(_) => "it drives none: this kernel has no PWM for it",
        Err(_) => NONE,
    };
    let (class, name) = (hwmon::chips(machine), name.clone());
    let find = move || {
        let chip = one(&class, &name)?;
        chip.has(&pwm).then_some(chip).ok_or(Fault::Absent)
    };
    let fan = move |chip| hwmon::Fan::of(chip, channel);
    bind_fan(devices, board, (&place, why), find, fan);
}

fn hwmon_fan_speed(machine: &Machine, name: &Name, channel: u8, board: &mut Board) {
    let place = format!("chip {name}");
    let why = match one(&hwmon::chips(machine), name) {
        Ok(_) => "it does not measure a fan's speed",
        Err(_) => NONE,
    };
    let (class, name) = (hwmon::chips(machine), name.clone());
    let find = move || hwmon::FanSpeed::of(one(&class, &name)?, channel).ok_or(Fault::Absent);
    let open = find.clone();
    let speed = board.reads(
        "fan speed",
        SEES_IT_TURN,
        (&place, why),
        move || open().map(Box::new),
        Tachometer::read,
    );
    let there = move || find().map(drop);
    board.tachometer = Some(speed.late(false, there, |speed| Box::new(speed)));
}

fn cooling_fan(machine: &Machine, devices: &Devices, name: &Name, board: &mut Board) {
    let place = format!("cooling device {name}");
    let (class, name) = (thermal::cooling_devices(machine), name.clone());
    let find = move || one(&class, &name);
    bind_fan(devices, board, (&place, NONE), find, CoolingFan::of);
}

/// Gives a board its fan. It is not tried: whether it turns is what the law looks at.
fn bind_fan<F: FanDrive + 'static>(
    devices: &Devices,
    board: &mut Board,
    (place, why): (&str, &str),
    find: impl Fn() -> Result<Device, Fault> + Clone + Send + 'static,
    fan: impl Fn(Device) -> F + Send + 'static,
) {
    let does = find().map(|_| "cools with it".into());
    board.looked("fan", place, does, why);
    board.folders.insert("/sys/devices");
    let there = find.clone();
    let open = move || Ok(Box::new(fan(find()?)));
    // That it is there says that it can be driven, until it has answered.
    let fan = Aside::new(open, |fan: &mut F, duty| fan.set(duty), Ok(()));
    let there = move || there().map(drop);
    board.fan = Some(fan.late(devices.is_wired("fan"), there, |fan| Box::new(fan)));
}

/// Only looks at it: opening it would start it.
fn watchdog(machine: &Machine, wanted: &Watchdog, wired: bool, board: &mut Board) {
    let place = format!("watchdog {}", wanted.identity);
    let (owned, wanted) = (machine.clone(), wanted.clone());
    let find = move || {
        let device = one(&watchdogs(&owned), &wanted.identity)?;
        // It is fed with each measurement, every two seconds.
        Dog::of(&owned, device, wanted.timeout_seconds.max(4).into())
    };
    match find() {
        Ok(dog) if dog.runs() => board.missing(
            "watchdog",
            &place,
            "somebody has started it, as systemd does for RuntimeWatchdogSec=; it is used once that one lets go of it",
        ),
        Ok(dog) => board.found("watchdog", &place, &dog.about()),
        Err(Fault::Absent) => board.missing("watchdog", &place, NONE),
        Err(fault) => board.missing("watchdog", &place, advice(fault)),
    }
    board.folders.insert("/dev");
    board.watchdog = Some(Late::new(wired, move || {
        let started = find()?.start()?;
        Ok(Box::new(started) as Box<dyn device::Watchdog>)
    }));
}

const NOT_NAMED: &str = "this board";
const NOBODY: &str = "neither its table nor the owner names one";

pub(super) fn place(kind: &str, names: &[Name]) -> String {
    let names: Vec<_> = names.iter().map(Name::to_string).collect();
    format!("{kind} {}", names.join(" or "))
}

/// The devices of any of these names.
pub(super) fn all(class: &Class, names: &[Name]) -> Vec<Device> {
    class.devices(|name| names.iter().any(|wanted| wanted.is(name)))
}

/// The only device of this name.
fn one(class: &Class, name: &Name) -> Result<Device, Fault> {
    only(class.devices(|called| name.is(called)).into_iter())
}

/// The only one; of several none is guessed.
fn only<T>(mut found: impl Iterator<Item = T>) -> Result<T, Fault> {
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Fault::Absent),
        (Some(_), Some(_)) => Err(Fault::Ambiguous),
    }
}
