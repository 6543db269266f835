//! Binds what is on I2C buses.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. Must never bind two devices at one address: both
//! would answer, and neither be understood.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use cloister_control::device::{FanDrive, Fault, PowerMeter, Tachometer, Thermometer};
use cloister_control::units::Celsius;
use embedded_hal::i2c::I2c;
use ssd1306::size::{DisplaySize128x32, DisplaySize128x64};

use super::devices::{self, OnBus, Shunted, Size};
use super::{Board, Display, Late, Machine, Sensor};
use crate::drivers::emc::{self, Controller};
use crate::drivers::i2c::{self, Bus};
use crate::drivers::ina::Shunt;
use crate::drivers::ssd1306::Ssd1306;

/// The buses of a machine, and who has which address.
pub struct Buses<'a> {
    machine: &'a Machine,
    /// By the bus's node, or its name where there is none yet.
    taken: Vec<(PathBuf, u8, &'static str)>,
}

/// Of all devices.
const ADDRESSES: RangeInclusive<u8> = 0x08..=0x77;

/// A device at its address.
struct At {
    place: String,
    /// Why it does not answer, if it is absent.
    why: String,
    /// Opens its bus.
    open: Box<dyn Fn() -> Result<Bus, Fault>>,
}

/// A device that cannot be where it is said to be.
struct Refused {
    place: String,
    why: String,
    fault: Fault,
}

impl<'a> Buses<'a> {
    /// Of this machine, with nobody on them.
    pub fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            taken: Vec::new(),
        }
    }

    /// Where a device is, which has its address from then on.
    ///
    /// # Errors
    /// It cannot be there.
    fn take(
        &mut self,
        chip: &'static str,
        bus: &str,
        address: u8,
        addresses: RangeInclusive<u8>,
    ) -> Result<At, Refused> {
        let place = format!("{chip} at {address:#04x} of {bus}");
        if !addresses.contains(&address) {
            let (first, last) = addresses.into_inner();
            let why = format!("an address is {first:#04x} to {last:#04x}");
            let fault = Fault::Nonsense;
            return Err(Refused { place, why, fault });
        }
        let node = i2c::node(self.machine, bus);
        let why = match node {
            Ok(_) => "nobody answers at this address".to_owned(),
            Err(Fault::Ambiguous) => format!("several I2C buses are called {bus}"),
            Err(_) => format!("no I2C bus is called {bus}: is it switched on, and i2c-dev loaded?"),
        };
        let node = node.unwrap_or_else(|_| bus.into());
        let same = |(at, of, _): &&(PathBuf, u8, _)| *at == node && *of == address;
        if let Some((_, _, other)) = self.taken.iter().find(same) {
            let why = format!("two devices at one address: {other} is there");
            let fault = Fault::Taken;
            return Err(Refused { place, why, fault });
        }
        self.taken.push((node, address, chip));
        let (machine, bus) = (self.machine.clone(), bus.to_owned());
        let open = move || Bus::open(&i2c::node(&machine, &bus)?, address);
        Ok(At {
            place,
            why,
            open: Box::new(open),
        })
    }

    /// Binds a thermometer.
    pub fn thermometer<T: Thermometer + 'static>(
        &mut self,
        chip: &'static str,
        at: &OnBus,
        board: &mut Board,
        driver: impl Fn(Bus, u8) -> T + 'static,
    ) {
        let (address, name) = (at.address, format!("{chip}_{:02x}", at.address));
        let place = self.take(chip, &at.bus, address, ADDRESSES);
        let driver = move |bus| Ok(Box::new(driver(bus, address)) as Box<dyn Thermometer>);
        let device = bind(board, "temperature", place, driver, |device| {
            Ok(format!("cools by it; now {}", device.read()?))
        });
        board.thermometers.push(Sensor {
            name,
            limit: at.limit.map_or(board.limits.limit, Celsius),
            on_die: false,
            device,
        });
    }

    /// Binds what measures power.
    pub fn power<M: PowerMeter + 'static>(
        &mut self,
        chip: &'static str,
        at: &Shunted,
        board: &mut Board,
        driver: impl Fn(Bus, u8, Shunt) -> M + 'static,
    ) {
        let (address, shunt) = (at.address, Shunt(at.shunt_milliohms));
        let place = self.take(chip, &at.bus, address, 0x40..=0x4F);
        let driver = move |bus| Ok(Box::new(driver(bus, address, shunt)) as Box<dyn PowerMeter>);
        board.power = Some(bind(board, "power", place, driver, |meter| {
            Ok(format!("accounts for energy; now {}", meter.read()?))
        }));
    }

    /// Binds the display.
    pub fn display(&mut self, display: &devices::Display, board: &mut Board) {
        let devices::Display::Ssd1306 { bus, address, size } = display;
        let (address, size) = (*address, *size);
        let place = self.take("SSD1306", bus, address, ADDRESSES);
        let driver = move |mut bus: Bus| {
            // A command that does nothing: who only looks leaves the screen of a running panel as it is.
            let answers = bus.write(address, &[0x00, 0xE3]);
            answers.map_err(|error| i2c::meaning(&error))?;
            let display: Box<dyn Display> = match size {
                Size::S128x64 => Box::new(Ssd1306::new(bus, address, DisplaySize128x64)),
                Size::S128x32 => Box::new(Ssd1306::new(bus, address, DisplaySize128x32)),
            };
            Ok(display)
        };
        board.display = Some(bind(board, "display", place, driver, |_| {
            Ok("shows the figures".into())
        }));
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
        let place = self.take(chip, bus, address, ADDRESSES);
        let (machine, bus) = (self.machine.clone(), bus.to_owned());
        board.tachometer = Some(Late::new(false, move || {
            let bus = Bus::open(&i2c::node(&machine, &bus)?, address)?;
            let speed = emc::FanSpeed::new(bus, address, controller);
            Ok(Box::new(speed) as Box<dyn Tachometer>)
        }));
        let driver = move |bus| {
            let mut fan = emc::Fan::new(bus, address, controller);
            // Who only looks does not drive it, and asks who it is.
            fan.identify()?;
            Ok(Box::new(fan) as Box<dyn FanDrive>)
        };
        board.fan = Some(bind(board, "fan", place, driver, |_| {
            Ok("cools, and sees whether it turns".into())
        }));
    }
}

/// Binds a device: asks it what it is for, or says why it cannot be there.
fn bind<D: ?Sized + 'static>(
    board: &mut Board,
    what: &'static str,
    at: Result<At, Refused>,
    driver: impl Fn(Bus) -> Result<Box<D>, Fault> + 'static,
    act: impl FnOnce(&mut D) -> Result<String, Fault>,
) -> Late<D> {
    board.folders.insert("/dev");
    match at {
        Ok(At { place, why, open }) => {
            let mut device = Late::new(true, move || driver(open()?));
            board.asks(what, &place, &mut device, &why, act);
            device
        }
        Err(Refused { place, why, fault }) => {
            board.missing(what, &place, &why);
            Late::never(fault)
        }
    }
}
