//! What the board measures of itself, as far as its kernel tells: how warm it is, and how much power it takes.
//!
//! In: the zones and chips of [`cloister_sysfs`]. Out: °C and watts.
//! Must never give a figure that nobody measured: what a board does not have is left out.

use std::time::{Duration, Instant};

use cloister_control::device::{PowerMeter, Thermometer};
use cloister_control::thermal::PLAUSIBLE;
use cloister_sysfs::Machine;
use cloister_sysfs::hwmon::{self, Power, Temperature};
use cloister_sysfs::thermal::{self, Zone};
use serde_json::{Map, Value};

/// How often they are read. A sensor on a slow bus takes milliseconds, and who draws a curve needs no more.
const EVERY: Duration = Duration::from_secs(10);

/// The chip of a Jetson, and the channel of it that carries all that the module takes.
const MODULE: &str = "ina3221";
const WHOLE_MODULE: &str = "VDD_IN";

/// The sensors, and what they said last.
pub struct Sensors {
    machine: Machine,
    read_at: Option<Instant>,
    figures: Map<String, Value>,
}

impl Sensors {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        Self {
            machine: Machine::this(),
            read_at: None,
            figures: Map::new(),
        }
    }

    /// What they say now, or said some seconds ago.
    pub async fn current(mut self) -> Self {
        if self.read_at.is_some_and(|at| at.elapsed() < EVERY) {
            return self;
        }
        let machine = self.machine.clone();
        // A file of a sensor answers when the sensor does.
        let read = tokio::task::spawn_blocking(move || read(&machine)).await;
        self.figures = read.unwrap_or_default();
        self.read_at = Some(Instant::now());
        self
    }

    /// `temperature` in whole °C and `power` in W, each where it is measured.
    pub fn figures(&self) -> &Map<String, Value> {
        &self.figures
    }
}

fn read(machine: &Machine) -> Map<String, Value> {
    let temperature = temperature(machine).map(|degrees| degrees.round() as i64);
    // In tenths: less is noise, and would be news to all who listen.
    let power = power(machine).map(|watts| (f64::from(watts) * 10.0).round() / 10.0);
    [
        ("temperature", temperature.map(Value::from)),
        ("power", power.map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(name, figure)| Some((name.to_owned(), figure?)))
    .collect()
}

/// The hottest of the processor's zones, else of the chips that measure one.
fn temperature(machine: &Machine) -> Option<f32> {
    let hottest = |sensors: &mut dyn Iterator<Item = Box<dyn Thermometer>>| {
        let degrees = sensors.filter_map(|mut sensor| Some(sensor.read().ok()?.0));
        degrees
            .filter(|degrees| PLAUSIBLE.contains(degrees))
            .reduce(f32::max)
    };
    let zones = thermal::zones(machine).any_of(thermal::PROCESSORS);
    hottest(&mut zones.into_iter().map(|zone| Box::new(Zone(zone)) as _)).or_else(|| {
        let chips = hwmon::chips(machine).any_of(hwmon::PROCESSORS);
        let channel = 1;
        let first = |chip| Box::new(Temperature { chip, channel }) as _;
        hottest(&mut chips.into_iter().map(first))
    })
}

/// What the whole board takes.
fn power(machine: &Machine) -> Option<f32> {
    let all_of_it = [&[MODULE], hwmon::SUPPLIES].concat();
    let mut chips = hwmon::chips(machine).any_of(&all_of_it).into_iter();
    chips
        .find_map(|chip| {
            let channel = (chip.name() == MODULE).then_some(WHOLE_MODULE);
            Some(Power::of(chip, channel)?.read().ok()?.0)
        })
        .filter(|watts| (0.0..10_000.0).contains(watts))
}

#[cfg(test)]
mod tests {
    use cloister_sysfs::made::machine;
    use serde_json::json;

    use super::*;

    /// What is said of a machine with these files below `/sys/class`.
    fn figures(files: &[(&str, &str)]) -> Value {
        let (_root, machine) = machine(&[]);
        for (name, text) in files {
            machine.put(&format!("/sys/class/{name}"), text);
        }
        Value::Object(read(&machine))
    }

    #[test]
    fn the_hottest_zone_of_the_processor_is_its_temperature() {
        let said = figures(&[
            ("thermal/thermal_zone0/type", "cpu-thermal"),
            ("thermal/thermal_zone0/temp", "51234"),
            ("thermal/thermal_zone1/type", "SOC0-therm"),
            ("thermal/thermal_zone1/temp", "52700"),
            ("thermal/thermal_zone2/type", "gpu-thermal"),
            ("thermal/thermal_zone2/temp", "90000"),
            ("thermal/thermal_zone3/type", "CPU-therm"),
            ("thermal/thermal_zone3/temp", "-256000"),
            ("thermal/cooling_device0/type", "Fan"),
        ]);
        assert_eq!(said, json!({"temperature": 53}));
    }

    #[test]
    fn a_pc_without_zones_has_its_processors_chip() {
        let said = figures(&[
            ("hwmon/hwmon0/name", "nvme"),
            ("hwmon/hwmon0/temp1_input", "70000"),
            ("hwmon/hwmon1/name", "k10temp"),
            ("hwmon/hwmon1/temp1_input", "44250"),
        ]);
        assert_eq!(said, json!({"temperature": 44}));
    }

    #[test]
    fn power_is_what_the_whole_board_takes() {
        let jetson = figures(&[
            ("hwmon/hwmon3/name", "ina3221"),
            ("hwmon/hwmon3/in1_label", "VDD_IN"),
            ("hwmon/hwmon3/in1_input", "5048"),
            ("hwmon/hwmon3/curr1_input", "1432"),
            ("hwmon/hwmon3/in2_label", "VDD_CPU_GPU_CV"),
            ("hwmon/hwmon3/in2_input", "5040"),
            ("hwmon/hwmon3/curr2_input", "400"),
        ]);
        assert_eq!(jetson, json!({"power": 7.2}));
        let supply = figures(&[
            ("hwmon/hwmon0/name", "ina226"),
            ("hwmon/hwmon0/power1_input", "6150000"),
        ]);
        assert_eq!(supply, json!({"power": 6.2}));
        let server = figures(&[
            ("hwmon/hwmon0/name", "power_meter"),
            ("hwmon/hwmon0/power1_average", "84000000"),
        ]);
        assert_eq!(server, json!({"power": 84.0}));
    }

    #[test]
    fn what_is_not_measured_is_left_out() {
        for files in [
            &[][..],
            &[
                ("thermal/thermal_zone0/type", "acpitz"),
                ("thermal/thermal_zone0/temp", "20000"),
            ],
            &[
                ("thermal/thermal_zone0/type", "cpu-thermal"),
                ("thermal/thermal_zone0/temp", "?"),
            ],
            // A part of a board, and a battery.
            &[
                ("hwmon/hwmon0/name", "amdgpu"),
                ("hwmon/hwmon0/power1_average", "9000000"),
            ],
            &[
                ("hwmon/hwmon0/name", "BAT0"),
                ("hwmon/hwmon0/power1_input", "9000000"),
            ],
        ] {
            assert_eq!(figures(files), json!({}), "{files:?}");
        }
    }
}
