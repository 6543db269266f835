//! Binds what is on I2C buses.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. Must never bind two devices at one address: both
//! would answer, and neither be understood.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use cloister_control::device::{FanDrive, Fault, PowerMeter, Tachometer, Thermometer};
use cloister_control::units::Celsius;
use embedded_hal::i2c::I2c;
use ssd1306::size::{DisplaySize, DisplaySize128x32, DisplaySize128x64};

use super::aside::{Aside, AsideDisplay};
use super::devices::{self, OnBus, Shunted, Size};
use super::findings::SEES_IT_TURN;
use super::{Board, Display, Late, Machine, Screen, Sensor};
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
    machine: Machine,
    bus: String,
    address: u8,
}

impl At {
    /// Where it is, and why it would be absent.
    fn place(&self) -> (&str, &str) {
        (&self.place, &self.why)
    }

    /// Opens its bus, and it.
    fn opens<D, F: Fn(Bus) -> Result<D, Fault> + Send + 'static>(
        &self,
        driver: F,
    ) -> impl Fn() -> Result<Box<D>, Fault> + Send + use<D, F> {
        let (machine, bus, address) = (self.machine.clone(), self.bus.clone(), self.address);
        move || {
            let bus = Bus::open(&i2c::node(&machine, &bus)?, address)?;
            driver(bus).map(Box::new)
        }
    }
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
        Ok(At {
            place,
            why,
            machine: self.machine.clone(),
            bus: bus.to_owned(),
            address,
        })
    }

    /// Binds a thermometer.
    pub fn thermometer<T: Thermometer + 'static>(
        &mut self,
        chip: &'static str,
        (at, wired): (&OnBus, bool),
        board: &mut Board,
        driver: fn(Bus, u8) -> T,
    ) {
        let (what, address) = ("temperature", at.address);
        if !board.has_place(&format!("{chip} on {}", at.bus), wired) {
            return;
        }
        let place = board.place(what, self.take(chip, &at.bus, address, ADDRESSES));
        let device = place.map(|at| {
            let open = at.opens(move |bus| Ok(driver(bus, address)));
            board.reads(what, "cools by it", at.place(), open, T::read)
        });
        board.thermometers.push(Sensor {
            name: format!("{chip}_{address:02x}"),
            limit: at.limit.map_or(board.limits.limit, Celsius),
            on_die: false,
            device: late(device, |device| Box::new(device)),
        });
    }

    /// Binds what measures power.
    pub fn power<M: PowerMeter + 'static>(
        &mut self,
        chip: &'static str,
        at: &Shunted,
        board: &mut Board,
        driver: fn(Bus, u8, Shunt) -> M,
    ) {
        let (address, shunt) = (at.address, Shunt(at.shunt_milliohms));
        let place = board.place("power", self.take(chip, &at.bus, address, 0x40..=0x4F));
        let meter = place.map(|at| {
            let open = at.opens(move |bus| Ok(driver(bus, address, shunt)));
            board.reads("power", "accounts for energy", at.place(), open, M::read)
        });
        board.power = Some(late(meter, |meter| Box::new(meter)));
    }

    /// Binds the display.
    pub fn display(&mut self, display: &devices::Display, board: &mut Board) {
        let devices::Display::Ssd1306 { bus, address, size } = display;
        match size {
            Size::S128x64 => self.ssd1306(bus, *address, DisplaySize128x64, board),
            Size::S128x32 => self.ssd1306(bus, *address, DisplaySize128x32, board),
        }
    }

    fn ssd1306<S: DisplaySize + Copy + Send + 'static>(
        &mut self,
        bus: &str,
        address: u8,
        size: S,
        board: &mut Board,
    ) {
        let place = board.place("display", self.take("SSD1306", bus, address, ADDRESSES));
        let display = place.map(|at| {
            let open = at.opens(move |mut bus| {
                // A command that does nothing: who only looks leaves the screen of a running panel as it is.
                let answers = bus.write(address, &[0x00, 0xE3]);
                answers.map_err(|error| i2c::meaning(&error))?;
                Ok(Ssd1306::new(bus, address, size))
            });
            let show = |display: &mut Ssd1306<Bus, S>, screen: Option<Screen>| {
                display.show(screen.as_ref())
            };
            board.tells("display", "shows the figures", at.place(), open, show)
        });
        board.display = Some(late(display, |display| {
            Box::new(AsideDisplay::new(display, Ssd1306::<Bus, S>::CHARACTERS))
        }));
    }

    /// Binds a fan, and what measures its speed.
    pub fn fan<C: Controller + Send + 'static>(
        &mut self,
        chip: &'static str,
        bus: &str,
        address: u8,
        board: &mut Board,
        controller: C,
    ) {
        let place = board.place("fan", self.take(chip, bus, address, ADDRESSES));
        let fan = place.as_ref().map_err(|fault| *fault).map(|at| {
            let open = at.opens(move |bus| {
                let mut fan = emc::Fan::new(bus, address, controller);
                // Who only looks does not drive it, and asks who it is.
                fan.identify()?;
                Ok(fan)
            });
            board.tells("fan", "cools with it", at.place(), open, emc::Fan::set)
        });
        board.fan = Some(late(fan, |fan| Box::new(fan)));
        let speed = place.map(|at| {
            let open = at.opens(move |bus| Ok(emc::FanSpeed::new(bus, address, controller)));
            let read = emc::FanSpeed::read;
            board.reads("fan speed", SEES_IT_TURN, at.place(), open, read)
        });
        board.tachometer = Some(late(speed, |speed| Box::new(speed)));
    }
}

impl Board {
    /// Where a device is; what cannot be where it is said to be is told.
    fn place(&mut self, what: &'static str, at: Result<At, Refused>) -> Result<At, Fault> {
        // A thread opens it once the panel is sealed.
        self.folders.insert("/dev");
        at.map_err(|Refused { place, why, fault }| {
            self.missing(what, &place, &why);
            fault
        })
    }
}

/// As a device of a board, where the owner has wired it.
fn late<D: ?Sized + 'static, Q: Send + 'static, A: Clone + Send + 'static>(
    device: Result<Aside<Q, A>, Fault>,
    as_what: fn(Aside<Q, A>) -> Box<D>,
) -> Late<D> {
    match device {
        Ok(device) => device.late(true, || Ok(()), as_what),
        Err(fault) => Late::never(fault),
    }
}
