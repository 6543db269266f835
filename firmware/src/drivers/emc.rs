//! Fan controllers on an I2C bus: EMC2101 and EMC2301 to EMC2305 of Microchip. Ours: of the crates for them the one brings
//! six more, and the other is for asynchronous buses only.
//!
//! In: a bus, an address, which fan. Out: a duty for the fan, and how fast it turns.
//! Must never leave a fan slow that nobody governs any more: at its end it is full.

use cloister_control::device::{FanDrive, Fault, Tachometer};
use cloister_control::units::{Duty, Rpm};
use embedded_hal::i2c::I2c;

use super::i2c::{Known, read, write};

/// SMSC, whose chips these were.
const MANUFACTURER: u8 = 0x5D;
const PRODUCT_ID: u8 = 0xFD;
const MANUFACTURER_ID: u8 = 0xFE;

/// EMC2101 (Microchip DS20006703).
#[derive(Clone, Copy, Debug)]
pub struct Emc2101;

/// One fan of an EMC2301, EMC2302, EMC2303 or EMC2305 (Microchip DS20006532), counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Emc230x {
    /// Which fan.
    pub fan: u8,
}

/// A kind of controller.
pub trait Controller: Copy {
    /// Whether it is that, by its product's number.
    fn is(self, product: u8) -> bool;

    /// What to write, register and value, before a duty is.
    fn set_up(self) -> Vec<(u8, u8)>;

    /// The register and the value of a duty.
    fn duty(self, duty: Duty) -> (u8, u8);

    /// Where the count of a turn's time is: the byte to read first, and the other one.
    fn count_at(self) -> (u8, u8);

    /// How fast it turns for the two bytes, in that order.
    fn speed(self, first: u8, second: u8) -> Rpm;
}

impl Controller for Emc2101 {
    fn is(self, product: u8) -> bool {
        // The second one is the EMC2101-R.
        matches!(product, 0x16 | 0x28)
    }

    fn set_up(self) -> Vec<(u8, u8)> {
        vec![
            // The pin ALERT/TACH measures the fan; the fan is driven by PWM.
            (0x03, 0x04),
            // The duty is what is written, from the base clock of 360 kHz.
            (0x4A, 0x20),
            (0x4D, PWM_F),
        ]
    }

    fn duty(self, duty: Duty) -> (u8, u8) {
        let steps = u16::from(PWM_F) * 2;
        (0x4C, (u16::from(duty.0) * steps).div_ceil(255) as u8)
    }

    fn count_at(self) -> (u8, u8) {
        // Reading the low byte holds the high one.
        (0x46, 0x47)
    }

    fn speed(self, low: u8, high: u8) -> Rpm {
        match u16::from_le_bytes([low, high]) {
            0 | 0xFFFF => Rpm(0),
            count => Rpm(5_400_000 / u32::from(count)),
        }
    }
}

/// 360 kHz / (2 * 7) are 25.7 kHz, as fans with four wires want it; the duty then has 14 steps.
const PWM_F: u8 = 7;

impl Emc230x {
    fn register(self, of_the_first: u8) -> u8 {
        of_the_first + 0x10 * self.fan
    }
}

impl Controller for Emc230x {
    fn is(self, product: u8) -> bool {
        let fans = match product {
            0x34 => 5,
            0x35 => 3,
            0x36 => 2,
            0x37 => 1,
            _ => 0,
        };
        self.fan < fans
    }

    fn set_up(self) -> Vec<(u8, u8)> {
        // The duty is what is written; speeds from 500 rpm on, two poles, as fans have them.
        vec![(self.register(0x32), 0x0B)]
    }

    fn duty(self, duty: Duty) -> (u8, u8) {
        (self.register(0x30), duty.0)
    }

    fn count_at(self) -> (u8, u8) {
        (self.register(0x3E), self.register(0x3F))
    }

    fn speed(self, high: u8, low: u8) -> Rpm {
        // 13 bits, of a clock of 32.768 kHz; slower than it can count it stands still.
        match u16::from_be_bytes([high, low]) >> 3 {
            0 | 0x1FF0.. => Rpm(0),
            count => Rpm(3_932_160 / u32::from(count)),
        }
    }
}

/// One fan of a controller.
pub struct Fan<B: I2c, C: Controller> {
    bus: B,
    address: u8,
    controller: C,
    known: Known,
    driven: bool,
}

impl<B: I2c, C: Controller> Fan<B, C> {
    /// Of the controller at this address.
    pub fn new(bus: B, address: u8, controller: C) -> Self {
        Self {
            bus,
            address,
            controller,
            known: Known::default(),
            driven: false,
        }
    }

    /// Makes sure that it is one.
    ///
    /// # Errors
    /// It does not answer, or is another chip.
    pub fn identify(&mut self) -> Result<(), Fault> {
        identify(&mut self.bus, self.address, self.controller)
    }
}

impl<B: I2c, C: Controller> FanDrive for Fan<B, C> {
    fn set(&mut self, duty: Duty) -> Result<(), Fault> {
        self.driven = true;
        let (bus, address, controller) = (&mut self.bus, self.address, self.controller);
        self.known.sure(|| {
            identify(bus, address, controller)?;
            let mut settings = controller.set_up().into_iter();
            settings.try_for_each(|(register, value)| write(bus, address, register, value))
        })?;
        let (register, value) = controller.duty(duty);
        self.known.keep(write(bus, address, register, value))
    }
}

impl<B: I2c, C: Controller> Drop for Fan<B, C> {
    fn drop(&mut self) {
        if self.driven {
            let _ = self.set(Duty::FULL);
        }
    }
}

/// How fast it turns.
pub struct FanSpeed<B, C> {
    bus: B,
    address: u8,
    controller: C,
    known: Known,
}

impl<B: I2c, C: Controller> FanSpeed<B, C> {
    /// Of the controller at this address.
    pub fn new(bus: B, address: u8, controller: C) -> Self {
        Self {
            bus,
            address,
            controller,
            known: Known::default(),
        }
    }
}

impl<B: I2c, C: Controller> Tachometer for FanSpeed<B, C> {
    fn read(&mut self) -> Result<Rpm, Fault> {
        let (bus, address, controller) = (&mut self.bus, self.address, self.controller);
        self.known.sure(|| identify(bus, address, controller))?;
        let (first, second) = controller.count_at();
        let count =
            read(bus, address, first).and_then(|first| Ok((first, read(bus, address, second)?)));
        let (first, second) = self.known.keep(count)?;
        Ok(controller.speed(first, second))
    }
}

fn identify<B: I2c>(bus: &mut B, address: u8, controller: impl Controller) -> Result<(), Fault> {
    let manufacturer = read(bus, address, MANUFACTURER_ID)?;
    let product = read(bus, address, PRODUCT_ID)?;
    match manufacturer == MANUFACTURER && controller.is(product) {
        true => Ok(()),
        false => Err(Fault::Nonsense),
    }
}
