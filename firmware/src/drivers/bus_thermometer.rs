//! Thermometers on an I2C bus: LM75 and what is like it, TMP102, TMP117.
//!
//! In: a bus and an address. Out: °C.

use cloister_control::device::{Fault, Thermometer};
use cloister_control::units::Celsius;
use embedded_hal::i2c::I2c;
use tmp1x2::marker::mode::Continuous;
use tmp1x2::{SlaveAddr, Tmp1x2};

use super::i2c::{Known, meaning, read_word};

/// LM75, LM75A and the many that are like them.
pub struct Lm75<B>(lm75::Lm75<B, lm75::ic::Lm75>);

impl<B: I2c> Lm75<B> {
    /// At this address, 0x48 to 0x4F.
    pub fn new(bus: B, address: u8) -> Self {
        Self(lm75::Lm75::new(bus, address))
    }
}

impl<B: I2c> Thermometer for Lm75<B> {
    fn read(&mut self) -> Result<Celsius, Fault> {
        self.0
            .read_temperature()
            .map(Celsius)
            .map_err(|error| match error {
                lm75::Error::I2C(error) => meaning(&error),
                lm75::Error::InvalidInputData => Fault::Nonsense,
            })
    }
}

/// TMP102, TMP112.
pub struct Tmp102<B: I2c>(Tmp1x2<B, Continuous>);

impl<B: I2c> Tmp102<B> {
    /// At this address, 0x48 to 0x4B.
    pub fn new(bus: B, address: u8) -> Self {
        let pins = SlaveAddr::Alternative(address & 2 != 0, address & 1 != 0);
        Self(Tmp1x2::new(bus, pins))
    }
}

impl<B: I2c> Thermometer for Tmp102<B> {
    fn read(&mut self) -> Result<Celsius, Fault> {
        let read = self.0.read_temperature();
        read.map(Celsius)
            .map_err(|tmp1x2::Error::I2C(error)| meaning(&error))
    }
}

/// TMP117 (Texas Instruments SNOSD82). Ours: the crate for it brings eight more for two registers.
pub struct Tmp117<B> {
    bus: B,
    address: u8,
    known: Known,
}

/// Registers of a TMP117.
mod register {
    /// In 1/128 °C.
    pub const TEMPERATURE: u8 = 0x00;
    /// The lower twelve bits say what it is, the others which revision.
    pub const DEVICE_ID: u8 = 0x0F;
}

const TMP117: u16 = 0x117;
/// Before its first conversion it says -256 °C.
const NOT_YET: u16 = 0x8000;

impl<B: I2c> Tmp117<B> {
    /// At this address, 0x48 to 0x4B.
    pub fn new(bus: B, address: u8) -> Self {
        Self {
            bus,
            address,
            known: Known::default(),
        }
    }
}

impl<B: I2c> Thermometer for Tmp117<B> {
    fn read(&mut self) -> Result<Celsius, Fault> {
        let (bus, address) = (&mut self.bus, self.address);
        self.known.sure(
            || match read_word(bus, address, register::DEVICE_ID)? & 0xFFF {
                TMP117 => Ok(()),
                _ => Err(Fault::Nonsense),
            },
        )?;
        let read = read_word(bus, address, register::TEMPERATURE);
        match self.known.keep(read)? {
            NOT_YET => Err(Fault::Nonsense),
            raw => Ok(Celsius(f32::from(raw as i16) / 128.0)),
        }
    }
}
