//! Meters of power on an I2C bus: INA219, INA226. Both measure the voltage of the supply, and that over a shunt; their own
//! multiplication would have to be calibrated first.
//!
//! In: a bus, an address, the shunt. Out: watts.

use cloister_control::device::{Fault, PowerMeter};
use cloister_control::units::Watts;
use embedded_hal::i2c::I2c;
use ina219::SyncIna219;
use ina219::address::Address;
use ina219::calibration::UnCalibrated;
use ina219::configuration::{Configuration, Resolution};
use ina219::errors::{BusVoltageReadError, ShuntVoltageReadError};
use ina226::{AVG, Config, INA226, MODE, VBUSCT, VSHCT};

use super::i2c::{Known, meaning};

/// A shunt's resistance in mΩ: 100 on most boards with an INA219.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shunt(pub f32);

impl Shunt {
    /// Of the supply's voltage in mV and that over the shunt in µV.
    fn power(self, millivolts: f64, microvolts: f64) -> Result<Watts, Fault> {
        // It feeds the box: without a voltage it has not measured yet, or something else.
        if millivolts < 1000.0 {
            return Err(Fault::Nonsense);
        }
        let watts = millivolts / 1e3 * (microvolts / 1e3) / f64::from(self.0);
        // Noise around nothing is nothing; power that a board gives away is a shunt that is wired the other way round.
        match watts {
            ..-0.1 => Err(Fault::Nonsense),
            _ => Ok(Watts(watts.max(0.0) as f32)),
        }
    }
}

/// INA219 (Texas Instruments SBOS448).
pub struct Ina219<B> {
    chip: SyncIna219<B, UnCalibrated>,
    shunt: Shunt,
    known: Known,
}

impl<B: I2c> Ina219<B> {
    /// At this address.
    ///
    /// # Panics
    /// It is not 0x40 to 0x4F: there an INA219 cannot be.
    pub fn new(bus: B, address: u8, shunt: Shunt) -> Self {
        let address = Address::from_byte(address).expect("an address of an INA219");
        Self {
            chip: SyncIna219::new_unchecked(bus, address, UnCalibrated),
            shunt,
            known: Known::default(),
        }
    }

    fn measure(&mut self) -> Result<Watts, Fault> {
        let supply = self.chip.bus_voltage().map_err(|error| match error {
            BusVoltageReadError::I2cError(error) => meaning(&error),
            _ => Fault::Nonsense,
        })?;
        let over_shunt = self.chip.shunt_voltage().map_err(|error| match error {
            ShuntVoltageReadError::I2cError(error) => meaning(&error),
            _ => Fault::Nonsense,
        })?;
        let microvolts = f64::from(over_shunt.shunt_voltage_10uv()) * 10.0;
        self.shunt.power(f64::from(supply.voltage_mv()), microvolts)
    }
}

impl<B: I2c> PowerMeter for Ina219<B> {
    fn read(&mut self) -> Result<Watts, Fault> {
        // It has no ID. Of 128 measurements each, within 0.14 s: what a computer takes is never the same.
        let settings = Configuration {
            bus_resolution: Resolution::Avg128,
            shunt_resolution: Resolution::Avg128,
            ..Configuration::default()
        };
        let chip = &mut self.chip;
        self.known.sure(|| {
            chip.set_configuration(settings)
                .map_err(|error| meaning(&error))
        })?;
        let measured = self.measure();
        self.known.keep(measured)
    }
}

/// INA226 (Texas Instruments SBOS547).
pub struct Ina226<B> {
    chip: INA226<B>,
    shunt: Shunt,
    known: Known,
}

/// "TI".
const MANUFACTURER: u16 = 0x5449;
/// The upper twelve bits; the others are the revision.
const DIE: u16 = 0x226;

impl<B: I2c> Ina226<B> {
    /// At this address, 0x40 to 0x4F.
    pub fn new(bus: B, address: u8, shunt: Shunt) -> Self {
        Self {
            chip: INA226::new(bus, address),
            shunt,
            known: Known::default(),
        }
    }

    fn set_up(chip: &mut INA226<B>) -> Result<(), Fault> {
        let manufacturer = chip.manufacturer_id().map_err(|error| meaning(&error))?;
        let die = chip.die_id().map_err(|error| meaning(&error))?;
        if (manufacturer, die >> 4) != (MANUFACTURER, DIE) {
            return Err(Fault::Nonsense);
        }
        // Of 256 measurements each, within 0.56 s.
        let settings = Config {
            avg: AVG::_256,
            vbusct: VBUSCT::_1100us,
            vshct: VSHCT::_1100us,
            mode: MODE::ShuntBusVoltageContinuous,
        };
        chip.set_configuration(&settings)
            .map_err(|error| meaning(&error))
    }

    fn measure(&mut self) -> Result<Watts, Fault> {
        let supply = self.chip.bus_voltage_millivolts();
        let supply = supply.map_err(|error| meaning(&error))?;
        let over_shunt = self.chip.shunt_voltage_microvolts();
        let over_shunt = over_shunt.map_err(|error| meaning(&error))?;
        self.shunt.power(supply, over_shunt)
    }
}

impl<B: I2c> PowerMeter for Ina226<B> {
    fn read(&mut self) -> Result<Watts, Fault> {
        let chip = &mut self.chip;
        self.known.sure(|| Self::set_up(chip))?;
        let measured = self.measure();
        self.known.keep(measured)
    }
}
