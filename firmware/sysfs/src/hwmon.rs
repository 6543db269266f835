//! Chips of the kernel's `hwmon`: temperature, power, fans
//! (<https://docs.kernel.org/hwmon/sysfs-interface.html>).
//!
//! In: chips by name, channels by label. Out: °C, watts, revolutions; a duty for a fan.
//! Must never leave a fan slow that nobody governs any more.

use cloister_control::device::{FanDrive, Fault, PowerMeter, Tachometer, Thermometer};
use cloister_control::units::{Celsius, Duty, Rpm, Watts};

use crate::Machine;
use crate::class::{Class, Device};

/// The chips of this machine.
pub fn chips(machine: &Machine) -> Class {
    Class::new(machine.path("/sys/class/hwmon"), "name")
}

/// Chips that measure a processor, by their drivers' names.
pub const PROCESSORS: &[&str] = &["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// Chips that measure one supply, which is the board's, by their drivers' names.
pub const SUPPLIES: &[&str] = &[
    "power_meter",
    "ina219",
    "ina226",
    "ina230",
    "ina231",
    "ina260",
];

/// Reads `tempN_input`, in thousandths of a degree.
pub struct Temperature {
    /// The chip.
    pub chip: Device,
    /// The channel.
    pub channel: u8,
}

impl Thermometer for Temperature {
    fn read(&mut self) -> Result<Celsius, Fault> {
        let thousandths = self.chip.read(&format!("temp{}_input", self.channel))?;
        Ok(Celsius(thousandths as f32 / 1000.0))
    }
}

/// Measures one supply.
pub struct Power {
    chip: Device,
    channel: Channel,
}

enum Channel {
    /// A file in µW.
    Power(&'static str),
    /// `inN_input` in mV times `currN_input` in mA.
    VoltageAndCurrent(u8),
}

impl Power {
    /// Of a chip, the channel of this label, or the only one that it has; nothing where it has none.
    pub fn of(mut chip: Device, label: Option<&str>) -> Option<Self> {
        let channel = match label {
            Some(label) => {
                let labelled = |n: &u8| chip.text(&format!("in{n}_label")).as_deref() == Ok(label);
                Channel::VoltageAndCurrent((1..=8).find(labelled)?)
            }
            None => {
                let has = ["power1_input", "power1_average"];
                Channel::Power(has.into_iter().find(|file| chip.has(file))?)
            }
        };
        Some(Self { chip, channel })
    }
}

impl PowerMeter for Power {
    fn read(&mut self) -> Result<Watts, Fault> {
        let microwatts = match self.channel {
            Channel::Power(file) => self.chip.read(file)?,
            Channel::VoltageAndCurrent(n) => {
                let millivolts = self.chip.read(&format!("in{n}_input"))?;
                millivolts.saturating_mul(self.chip.read(&format!("curr{n}_input"))?)
            }
        };
        Ok(Watts((microwatts as f64 / 1e6) as f32))
    }
}

/// Drives a fan by `pwmN`.
pub struct Fan {
    chip: Device,
    channel: u8,
    /// What `pwmN_enable` was before, where that says who governs.
    governed_before: Option<i64>,
    driven: bool,
}

/// `pwmN_enable`: the duty is what is written to `pwmN`.
const MANUAL: i64 = 1;

impl Fan {
    /// Of this chip, that of this number.
    pub fn of(mut chip: Device, channel: u8) -> Self {
        // The kernel's `pwm-fan` has the file for something else: what to do at a duty of 0.
        let governed_before = (chip.name() != "pwmfan")
            .then(|| chip.read(&format!("pwm{channel}_enable")).ok())
            .flatten();
        Self {
            chip,
            channel,
            governed_before,
            driven: false,
        }
    }
}

impl FanDrive for Fan {
    fn set(&mut self, duty: Duty) -> Result<(), Fault> {
        self.driven = true;
        if self.governed_before.is_some() {
            let enable = format!("pwm{}_enable", self.channel);
            if self.chip.read(&enable)? != MANUAL {
                self.chip.write(&enable, MANUAL)?;
            }
        }
        // Again and again: the kernel's own thermal governor may have written meanwhile.
        self.chip
            .write(&format!("pwm{}", self.channel), i64::from(duty.0))
    }
}

impl Drop for Fan {
    fn drop(&mut self) {
        if !self.driven {
            return;
        }
        let _ = match self.governed_before {
            Some(governor) if governor != MANUAL => self
                .chip
                .write(&format!("pwm{}_enable", self.channel), governor),
            _ => self.set(Duty::FULL),
        };
    }
}

/// No fan turns faster.
const MOST_RPM: u32 = 100_000;

/// Reads how fast a fan turns.
pub struct FanSpeed {
    chip: Device,
    file: String,
}

impl FanSpeed {
    /// Of this chip: `fanN_input`, or `rpm` of NVIDIA's tachometer; nothing where it has neither.
    pub fn of(chip: Device, channel: u8) -> Option<Self> {
        let files = [format!("fan{channel}_input"), "rpm".to_owned()];
        let file = files.into_iter().find(|file| chip.has(file))?;
        Some(Self { chip, file })
    }
}

impl Tachometer for FanSpeed {
    fn read(&mut self) -> Result<Rpm, Fault> {
        let rpm = self.chip.read(&self.file)?;
        match u32::try_from(rpm) {
            Ok(rpm) if rpm <= MOST_RPM => Ok(Rpm(rpm)),
            _ => Err(Fault::Nonsense),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::machine;

    const CHIP: &str = "/sys/class/hwmon/hwmon3";

    fn chip(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine, Device) {
        let (root, machine) = machine(&[]);
        for (file, text) in files {
            machine.put(&format!("{CHIP}/{file}"), text);
        }
        let chip = chips(&machine).devices(|_| true).remove(0);
        (root, machine, chip)
    }

    fn says(machine: &Machine, file: &str) -> String {
        crate::class::text(&machine.path(CHIP).join(file)).unwrap()
    }

    #[test]
    fn a_temperature_is_in_degrees_below_zero_too() {
        let (_root, machine, chip) = chip(&[("name", "tmp102"), ("temp2_input", "51250")]);
        let mut sensor = Temperature { chip, channel: 2 };
        assert_eq!(sensor.read(), Ok(Celsius(51.25)));
        machine.put(&format!("{CHIP}/temp2_input"), "-10500");
        assert_eq!(sensor.read(), Ok(Celsius(-10.5)));
    }

    #[test]
    fn power_is_that_of_the_channel_that_carries_all() {
        let (_root, machine, jetson) = chip(&[
            ("name", "ina3221"),
            ("in1_label", "VDD_CPU_GPU_CV"),
            ("in1_input", "5040"),
            ("curr1_input", "400"),
            ("in2_label", "VDD_IN"),
            ("in2_input", "5048"),
            ("curr2_input", "1432"),
        ]);
        let mut meter = Power::of(jetson.clone(), Some("VDD_IN")).unwrap();
        assert_eq!(meter.read(), Ok(Watts(7.228_736)));
        std::fs::remove_file(machine.path(CHIP).join("curr2_input")).unwrap();
        assert_eq!(meter.read(), Err(Fault::Absent));
        assert!(Power::of(jetson, Some("VIN")).is_none());

        let (_root, _machine, supply) = chip(&[("name", "ina226"), ("power1_input", "6150000")]);
        assert_eq!(Power::of(supply, None).unwrap().read(), Ok(Watts(6.15)));
    }

    #[test]
    fn a_pwm_fan_is_driven_again_though_the_kernel_has_written_and_is_full_when_nobody_governs_it()
    {
        let (_root, machine, chip) =
            chip(&[("name", "pwmfan"), ("pwm1", "0"), ("pwm1_enable", "2")]);
        let mut fan = Fan::of(chip, 1);
        fan.set(Duty(90)).unwrap();
        assert_eq!(says(&machine, "pwm1"), "90");
        machine.put(&format!("{CHIP}/pwm1"), "125");
        fan.set(Duty(90)).unwrap();
        assert_eq!(says(&machine, "pwm1"), "90");
        drop(fan);
        assert_eq!(says(&machine, "pwm1"), "255");
        assert_eq!(says(&machine, "pwm1_enable"), "2");
    }

    #[test]
    fn a_fan_that_its_chip_governs_is_given_back_to_it() {
        let (_root, machine, chip) =
            chip(&[("name", "nct6798"), ("pwm2", "77"), ("pwm2_enable", "5")]);
        let mut fan = Fan::of(chip, 2);
        fan.set(Duty(200)).unwrap();
        assert_eq!(
            (says(&machine, "pwm2"), says(&machine, "pwm2_enable")),
            ("200".into(), "1".into())
        );
        drop(fan);
        assert_eq!(says(&machine, "pwm2_enable"), "5");
    }

    #[test]
    fn a_fan_that_goes_away_is_absent_and_is_driven_when_it_is_back() {
        let (_root, machine, chip) = chip(&[("name", "pwmfan"), ("pwm1", "0")]);
        let mut fan = Fan::of(chip, 1);
        std::fs::rename(machine.path(CHIP), machine.path("/sys/gone")).unwrap();
        assert_eq!(fan.set(Duty(90)), Err(Fault::Absent));
        std::fs::rename(
            machine.path("/sys/gone"),
            machine.path("/sys/class/hwmon/hwmon9"),
        )
        .unwrap();
        assert_eq!(fan.set(Duty(90)), Ok(()));
    }

    #[test]
    fn a_speed_is_read_from_the_fan_or_from_nvidias_tachometer() {
        let (_root, machine, of_fan) = chip(&[("name", "pwmfan"), ("fan1_input", "2340")]);
        let mut speed = FanSpeed::of(of_fan, 1).unwrap();
        assert_eq!(speed.read(), Ok(Rpm(2340)));
        for wrong in ["-3", "4294967295"] {
            machine.put(&format!("{CHIP}/fan1_input"), wrong);
            assert_eq!(speed.read(), Err(Fault::Nonsense));
        }
        let (_root, _machine, tachometer) = chip(&[("name", "pwm_tach"), ("rpm", "1815")]);
        assert_eq!(FanSpeed::of(tachometer, 1).unwrap().read(), Ok(Rpm(1815)));
        let (_root, _machine, none) = chip(&[("name", "pwmfan")]);
        assert!(FanSpeed::of(none, 1).is_none());
    }
}
