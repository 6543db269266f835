//! The kernel's thermal framework: zones that are measured, and devices that cool
//! (<https://docs.kernel.org/driver-api/thermal/sysfs-api.html>).
//!
//! In: zones and cooling devices by type. Out: °C; a duty for a fan that has states instead; whether the kernel slows the
//! processor down.

use cloister_control::device::{FanDrive, Fault, SocThrottle, Thermometer};
use cloister_control::units::{Celsius, Duty};

use crate::Machine;
use crate::class::{Class, Device};

/// What zones of processors are called, as [`is_called`](crate::class::is_called) takes it.
pub const PROCESSORS: &[&str] = &["cpu*", "soc*", "package-thermal", "x86_pkg_temp"];

/// Zones of this machine. They lie in one folder with what cools, which may be called like them: `cpufreq-cpu0`.
pub fn zones(machine: &Machine) -> Class {
    both(machine).only("thermal_zone")
}

/// Devices of this machine that cool.
pub fn cooling_devices(machine: &Machine) -> Class {
    both(machine).only("cooling_device")
}

fn both(machine: &Machine) -> Class {
    Class::new(machine.path("/sys/class/thermal"), "type")
}

/// Reads a zone's temperature, in thousandths of a degree.
pub struct Zone(pub Device);

impl Thermometer for Zone {
    fn read(&mut self) -> Result<Celsius, Fault> {
        Ok(Celsius(self.0.read("temp")? as f32 / 1000.0))
    }
}

/// Drives a fan that has states from 0 to a highest.
pub struct CoolingFan {
    device: Device,
    driven: bool,
}

impl CoolingFan {
    /// This device.
    pub fn of(device: Device) -> Self {
        Self {
            device,
            driven: false,
        }
    }
}

impl FanDrive for CoolingFan {
    fn set(&mut self, duty: Duty) -> Result<(), Fault> {
        self.driven = true;
        let highest = self.device.read("max_state")?;
        if !(1..=255).contains(&highest) {
            return Err(Fault::Nonsense);
        }
        let state = (i64::from(duty.0) * highest + 254) / 255;
        self.device.write("cur_state", state)
    }
}

impl Drop for CoolingFan {
    fn drop(&mut self) {
        // Nobody governs it any more.
        if self.driven {
            let _ = self.set(Duty::FULL);
        }
    }
}

/// Cooling devices that are the processor itself, running slower.
pub struct SlowedProcessor(Vec<Device>);

impl SlowedProcessor {
    /// Of this machine; nothing where the kernel has none.
    pub fn of(machine: &Machine) -> Option<Self> {
        let slows = |name: &str| {
            ["cpufreq-", "thermal-cpufreq-", "cpu-freq", "Processor"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        let devices = cooling_devices(machine).devices(slows);
        (!devices.is_empty()).then_some(Self(devices))
    }
}

impl SocThrottle for SlowedProcessor {
    fn read(&mut self) -> Result<bool, Fault> {
        let mut slowed = false;
        for device in &mut self.0 {
            slowed |= device.read("cur_state")? > 0;
        }
        Ok(slowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::machine;

    const DEVICE: &str = "/sys/class/thermal/cooling_device1";

    #[test]
    fn a_zone_is_found_by_its_type() {
        let (_root, machine) = machine(&[
            ("/sys/class/thermal/thermal_zone0/type", "gpu-thermal"),
            ("/sys/class/thermal/thermal_zone0/temp", "90000"),
            ("/sys/class/thermal/thermal_zone1/type", "cpu-thermal"),
            ("/sys/class/thermal/thermal_zone1/temp", "51234"),
        ]);
        let zone = zones(&machine)
            .devices(|name| name == "cpu-thermal")
            .remove(0);
        assert_eq!(Zone(zone).read(), Ok(Celsius(51.234)));
        // What cools it lies beside it, and is no thermometer.
        machine.put(&format!("{DEVICE}/type"), "cpufreq-cpu0");
        let of_cpu = |class: Class| class.devices(|name| name.starts_with("cpu")).len();
        assert_eq!(of_cpu(zones(&machine)), 1);
        assert_eq!(of_cpu(cooling_devices(&machine)), 1);
    }

    #[test]
    fn a_fan_of_few_states_takes_the_next_higher_one() {
        let (_root, machine) = machine(&[
            (&format!("{DEVICE}/type"), "Fan"),
            (&format!("{DEVICE}/max_state"), "4"),
            (&format!("{DEVICE}/cur_state"), "0"),
        ]);
        let device = cooling_devices(&machine)
            .devices(|name| name == "Fan")
            .remove(0);
        let mut fan = CoolingFan::of(device);
        let state = || crate::class::text(&machine.path(DEVICE).join("cur_state")).unwrap();
        for (duty, wanted) in [
            (0, "0"),
            (1, "1"),
            (63, "1"),
            (64, "2"),
            (192, "4"),
            (255, "4"),
        ] {
            fan.set(Duty(duty)).unwrap();
            assert_eq!(state(), wanted, "of {duty}");
        }
        fan.set(Duty::OFF).unwrap();
        machine.put(&format!("{DEVICE}/max_state"), "0");
        assert_eq!(fan.set(Duty::FULL), Err(Fault::Nonsense));
        machine.put(&format!("{DEVICE}/max_state"), "4");
        drop(fan);
        assert_eq!(state(), "4");
    }

    #[test]
    fn the_kernel_that_slows_one_core_slows_the_processor() {
        let (_root, machine) = machine(&[]);
        assert!(SlowedProcessor::of(&machine).is_none());
        for (n, state) in [("1", "0"), ("2", "0")] {
            let device = format!("/sys/class/thermal/cooling_device{n}");
            machine.put(&format!("{device}/type"), &format!("cpufreq-cpu{n}"));
            machine.put(&format!("{device}/cur_state"), state);
        }
        machine.put("/sys/class/thermal/cooling_device0/type", "pwm-fan");
        machine.put("/sys/class/thermal/cooling_device0/cur_state", "3");
        let mut processor = SlowedProcessor::of(&machine).unwrap();
        assert_eq!(processor.read(), Ok(false));
        machine.put("/sys/class/thermal/cooling_device2/cur_state", "2");
        assert_eq!(processor.read(), Ok(true));
    }
}
