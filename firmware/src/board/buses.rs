//! Binds what is on I2C buses.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. Must never bind two devices at one address: both
//! would answer, and neither be understood.

use std::path::PathBuf;

use cloister_control::device::{Fault, PowerMeter, Tachometer, Thermometer};

use embedded_hal::i2c::I2c;
use ssd1306::size::{DisplaySize128x32, DisplaySize128x64};

use super::devices::{self, OnBus, Shunted, Size};
use super::{Board, Display, Machine};
use crate::drivers::advice;
use crate::drivers::emc::{self, Controller};
use crate::drivers::i2c::{self, Bus};
use crate::drivers::ina::Shunt;
use crate::drivers::ssd1306::Ssd1306;

/// The buses of a machine, and who has which address.
pub struct Buses<'a> {
    machine: &'a Machine,
    taken: Vec<(PathBuf, u8, &'static str)>,
}

impl<'a> Buses<'a> {
    /// Of this machine, with nobody on them.
    pub fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            taken: Vec::new(),
        }
    }

    /// The bus of a device, which has its address from then on; or why it has not.
    fn take(&mut self, chip: &'static str, bus: &str, address: u8) -> Result<PathBuf, String> {
        if !(0x08..=0x77).contains(&address) {
            return Err("an address is 0x08 to 0x77".into());
        }
        let node = i2c::node(self.machine, bus).map_err(|fault| match fault {
            Fault::Nonsense => format!("several I2C buses are called {bus}"),
            _ => format!("no I2C bus is called {bus}: is it switched on, and i2c-dev loaded?"),
        })?;
        let same = |(at, of, _): &&(PathBuf, u8, _)| *at == node && *of == address;
        match self.taken.iter().find(same) {
            Some((_, _, other)) => Err(format!("two devices at one address: {other} is there")),
            None => {
                self.taken.push((node.clone(), address, chip));
                Ok(node)
            }
        }
    }

    fn open(&mut self, chip: &'static str, bus: &str, address: u8) -> Result<Bus, String> {
        let node = self.take(chip, bus, address)?;
        Bus::open(&node, address).map_err(|fault| refused(fault).to_owned())
    }

    /// Binds a thermometer.
    pub fn thermometer<T: Thermometer + 'static>(
        &mut self,
        chip: &'static str,
        at: &OnBus,
        board: &mut Board,
        driver: impl FnOnce(Bus, u8) -> T,
    ) {
        let place = place(chip, &at.bus, at.address);
        match self.open(chip, &at.bus, at.address) {
            Ok(bus) => {
                let device = Box::new(driver(bus, at.address));
                board.thermometer(&place, place.clone(), at.limit, false, device);
            }
            // No board's table names one on a bus: the owner has wired it.
            Err(why) => {
                board.missing("temperature", &place, &why);
                board.wired.push("temperature");
            }
        }
    }

    /// Binds what measures power.
    pub fn power<M: PowerMeter + 'static>(
        &mut self,
        chip: &'static str,
        at: &Shunted,
        board: &mut Board,
        driver: impl FnOnce(Bus, u8, Shunt) -> Option<M>,
    ) {
        let place = place(chip, &at.bus, at.address);
        let bound = self.open(chip, &at.bus, at.address).and_then(|bus| {
            let meter = driver(bus, at.address, Shunt(at.shunt_milliohms));
            meter.ok_or_else(|| "it cannot have this address".into())
        });
        match bound {
            Ok(mut meter) => {
                let reads = meter.read();
                let reads = reads.map(|now| format!("accounts for energy; now {now}"));
                board.tried("power", &place, reads);
                board.power = Some(Box::new(meter));
            }
            Err(why) => board.missing("power", &place, &why),
        }
    }

    /// Binds the display.
    pub fn display(&mut self, display: &devices::Display, board: &mut Board) {
        let devices::Display::Ssd1306 { bus, address, size } = display;
        let place = place("SSD1306", bus, *address);
        match self.open("SSD1306", bus, *address) {
            Ok(mut bus) => {
                // A command that does nothing: a running panel's screen stays.
                let answers = bus.write(*address, &[0x00, 0xE3]);
                let answers = answers.map_err(|error| i2c::meaning(&error));
                let display: Box<dyn Display> = match size {
                    Size::S128x64 => Box::new(Ssd1306::new(bus, *address, DisplaySize128x64)),
                    Size::S128x32 => Box::new(Ssd1306::new(bus, *address, DisplaySize128x32)),
                };
                let shows = answers.map(|()| "shows the figures".into());
                board.tried("display", &place, shows);
                board.display = Some(display);
            }
            Err(why) => board.missing("display", &place, &why),
        }
    }

    /// Binds a fan, and what measures its speed.
    pub fn fan<C: Controller + 'static>(
        &mut self,
        chip: &'static str,
        bus: &str,
        address: u8,
        board: &mut Board,
        controller: C,
    ) {
        let place = place(chip, bus, address);
        let opened = self.take(chip, bus, address).and_then(|node| {
            let open = || Bus::open(&node, address).map_err(|fault| refused(fault).to_owned());
            Ok((open()?, open()?))
        });
        match opened {
            Ok((one, other)) => {
                let mut speed = emc::FanSpeed::new(one, address, controller);
                let reads = speed.read();
                let reads = reads.map(|now| format!("cools, and sees whether it turns; now {now}"));
                board.tried("fan", &place, reads);
                board.tachometer = Some(Box::new(speed));
                board.fan = Some(Box::new(emc::Fan::new(other, address, controller)));
            }
            Err(why) => board.missing("fan", &place, &why),
        }
    }
}

fn place(chip: &str, bus: &str, address: u8) -> String {
    format!("{chip} at {address:#04x} of {bus}")
}

fn refused(fault: Fault) -> &'static str {
    match fault {
        Fault::Taken => "a driver of the kernel has a device at this address: use it by hwmon",
        other => advice(other),
    }
}
