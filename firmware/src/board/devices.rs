//! Which devices a board has and where: `devices` of its table, and what the owner has wired to it.
//!
//! In: TOML. Out: what to look for; each by what the kernel calls it.

mod panel;

use std::num::NonZeroU8;

use cloister_sysfs::class::is_called;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use panel::{Display, Light, Line, Size};

/// What is to be looked for. What is not named here is not used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Devices {
    /// Thermometers.
    pub temperature: Vec<Thermometer>,
    /// What measures the power of the whole board.
    pub power: Option<Power>,
    /// The fan.
    pub fan: Option<Fan>,
    /// The status light.
    pub light: Option<Light>,
    /// The button.
    pub button: Option<Line>,
    /// The privacy switch, closed for private.
    pub privacy_switch: Option<Line>,
    /// The display.
    pub display: Option<Display>,
    /// The hardware watchdog.
    pub watchdog: Option<Watchdog>,
    /// Which of them the owner has wired; another that is missing is no fault, as kernels differ.
    #[serde(skip)]
    wired: Vec<&'static str>,
    /// So many of the thermometers, the first ones, too.
    #[serde(skip)]
    pub wired_thermometers: usize,
}

impl Devices {
    /// These, which the owner has wired, and of others what is not among them. Thermometers of both count.
    pub fn or(mut self, others: Self) -> Self {
        let named = [
            ("power", self.power.is_some()),
            ("fan", self.fan.is_some()),
            ("light", self.light.is_some()),
            ("watchdog", self.watchdog.is_some()),
        ];
        let named = named.into_iter().filter(|(_, named)| *named);
        let wired = named.map(|(what, _)| what).collect();
        let wired_thermometers = self.temperature.len();
        self.temperature.extend(others.temperature);
        Self {
            temperature: self.temperature,
            power: self.power.or(others.power),
            fan: self.fan.or(others.fan),
            light: self.light.or(others.light),
            button: self.button.or(others.button),
            privacy_switch: self.privacy_switch.or(others.privacy_switch),
            display: self.display.or(others.display),
            watchdog: self.watchdog.or(others.watchdog),
            wired,
            wired_thermometers,
        }
    }

    /// Whether the owner has wired it, of the devices that boards have by themselves.
    pub fn is_wired(&self, what: &str) -> bool {
        self.wired.contains(&what)
    }
}

/// A name that the kernel gives, as [`is_called`] takes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Whether the kernel means this by it.
    pub fn is(&self, name: &str) -> bool {
        is_called(name, &self.0)
    }

    /// These, where the owner names none.
    pub fn or(names: &[Self], known: &[&str]) -> Vec<Self> {
        match names.is_empty() {
            true => known.iter().map(|name| Self((*name).to_owned())).collect(),
            false => names.to_vec(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A thermometer, or all that have one of some names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "driver", rename_all = "kebab-case")]
pub enum Thermometer {
    /// Zones of the kernel's thermal framework.
    ThermalZone(Named),
    /// First channels of chips of the kernel's hwmon.
    Hwmon(Named),
    /// An LM75, or one that is like it.
    Lm75(OnBus),
    /// A TMP102 or TMP112.
    Tmp102(OnBus),
    /// A TMP117.
    Tmp117(OnBus),
}

/// A thermometer on an I2C bus, away from the processor's die.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnBus {
    /// The bus, by its alias in the device tree or as its adapter is called.
    pub bus: String,
    /// The address, 7 bits.
    pub address: u8,
    /// What it must never exceed, in °C, if that is not the board's own limit.
    #[serde(default, deserialize_with = "limit")]
    pub limit: Option<f32>,
}

/// Thermometers that the kernel has names for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Named {
    /// Any of these; without one those that processors have.
    #[serde(default)]
    pub names: Vec<Name>,
    /// Whether they are on the processor's die.
    #[serde(default)]
    pub on_die: bool,
    /// What they must never exceed, in °C, if that is not the board's own limit.
    #[serde(default, deserialize_with = "limit")]
    pub limit: Option<f32>,
}

/// A meter of power.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "driver", rename_all = "kebab-case")]
pub enum Power {
    /// A chip of the kernel's hwmon.
    Hwmon {
        /// Any of these; without one those that measure a board's supply.
        #[serde(default)]
        names: Vec<Name>,
        /// The label of the channel that carries all; without one, the chip's only one.
        channel: Option<String>,
    },
    /// An INA219.
    Ina219(Shunted),
    /// An INA226.
    Ina226(Shunted),
}

/// A meter of power on an I2C bus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shunted {
    /// The bus, by its alias in the device tree or as its adapter is called.
    pub bus: String,
    /// The address, 7 bits.
    pub address: u8,
    /// The resistance of its shunt.
    #[serde(deserialize_with = "shunt")]
    pub shunt_milliohms: f32,
}

/// What a thermometer must never exceed.
fn limit<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f32>, D::Error> {
    let limit = f32::deserialize(value)?;
    // NaN is in no range.
    match limit > 0.0 && limit <= 125.0 {
        true => Ok(Some(limit)),
        false => Err(D::Error::custom(
            "`limit` of a thermometer is above 0 and at most 125 °C",
        )),
    }
}

/// The resistance of a shunt.
fn shunt<'de, D: Deserializer<'de>>(value: D) -> Result<f32, D::Error> {
    let shunt = f32::deserialize(value)?;
    match shunt > 0.0 && shunt.is_finite() {
        true => Ok(shunt),
        false => Err(D::Error::custom("`shunt-milliohms` is above 0")),
    }
}

/// A fan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "driver", rename_all = "kebab-case")]
pub enum Fan {
    /// A chip of the kernel's hwmon.
    Hwmon {
        /// The chip.
        name: Name,
        /// The `N` of `pwmN` and `fanN_input`.
        #[serde(default = "first")]
        channel: NonZeroU8,
        /// The chip that measures how fast it turns, if that is another one.
        tachometer: Option<Name>,
    },
    /// A cooling device of the kernel's thermal framework.
    CoolingDevice {
        /// Its type.
        name: Name,
    },
    /// An EMC2101 on an I2C bus.
    Emc2101 {
        /// The bus, by its alias in the device tree or as its adapter is called.
        bus: String,
        /// The address, 7 bits.
        address: u8,
    },
    /// A fan of an EMC2301, EMC2302, EMC2303 or EMC2305 on an I2C bus.
    Emc230x {
        /// The bus, by its alias in the device tree or as its adapter is called.
        bus: String,
        /// The address, 7 bits.
        address: u8,
        /// Which fan, from 1.
        #[serde(default = "first")]
        channel: NonZeroU8,
    },
}

fn first() -> NonZeroU8 {
    NonZeroU8::MIN
}

/// A hardware watchdog.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Watchdog {
    /// What the kernel says that it is; `*` for the only one.
    pub identity: Name,
    /// It resets the machine when it was not fed for so long; less where it cannot wait so long.
    #[serde(default = "a_minute")]
    pub timeout_seconds: u8,
}

fn a_minute() -> u8 {
    60
}
