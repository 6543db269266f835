//! What the board measures of itself, as far as its kernel tells: how warm it is, and how much power it takes.
//!
//! In: the trees `thermal` and `hwmon` of `/sys/class`, in the kernel's documented form
//! (<https://docs.kernel.org/driver-api/thermal/sysfs-api.html>,
//! <https://docs.kernel.org/hwmon/sysfs-interface.html>). Out: °C and watts.
//! Must never give a figure that nobody measured: what a board does not have is left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// How often they are read. A sensor on a slow bus takes milliseconds, and who draws a curve needs no more.
const EVERY: Duration = Duration::from_secs(10);

/// What is no temperature of a running chip, in °C: a sensor that is off or broken.
const PLAUSIBLE_DEGREES: std::ops::Range<f64> = -40.0..150.0;

/// Chips that measure a processor, by their drivers' names.
const PROCESSORS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// Chips that measure one supply, which is the board's, by their drivers' names.
const SUPPLIES: [&str; 5] = ["ina219", "ina226", "ina230", "ina231", "ina260"];

/// The channel of a Jetson's ina3221 that carries all that the module takes.
const WHOLE_MODULE: &str = "VDD_IN";

/// The sensors, and what they said last.
pub struct Sensors {
    class: PathBuf,
    read_at: Option<Instant>,
    figures: Map<String, Value>,
}

impl Sensors {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        Self {
            class: "/sys/class".into(),
            read_at: None,
            figures: Map::new(),
        }
    }

    /// What they say now, or said some seconds ago.
    pub async fn current(mut self) -> Self {
        if self.read_at.is_some_and(|at| at.elapsed() < EVERY) {
            return self;
        }
        let class = self.class.clone();
        // A file of a sensor answers when the sensor does.
        let read = tokio::task::spawn_blocking(move || read(&class)).await;
        self.figures = read.unwrap_or_default();
        self.read_at = Some(Instant::now());
        self
    }

    /// `temperature` in whole °C and `power` in W, each where it is measured.
    pub fn figures(&self) -> &Map<String, Value> {
        &self.figures
    }
}

fn read(class: &Path) -> Map<String, Value> {
    let temperature = temperature(class).map(|degrees| degrees.round() as i64);
    // In tenths: less is noise, and would be news to all who listen.
    let power = power(class).map(|watts| (watts * 10.0).round() / 10.0);
    [
        ("temperature", temperature.map(Value::from)),
        ("power", power.map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(name, figure)| Some((name.to_owned(), figure?)))
    .collect()
}

/// The hottest of the processor's zones, else of the chips that measure one.
fn temperature(class: &Path) -> Option<f64> {
    let zones = folders(class.join("thermal")).filter_map(|zone| {
        let kind = text(&zone.join("type"))?.to_lowercase();
        let is_processor = ["cpu", "soc", "x86_pkg"]
            .iter()
            .any(|part| kind.contains(part));
        milli(&zone.join("temp")).filter(|_| is_processor)
    });
    let hottest = |degrees: &mut dyn Iterator<Item = f64>| {
        degrees
            .filter(|degrees| PLAUSIBLE_DEGREES.contains(degrees))
            .reduce(f64::max)
    };
    hottest(&mut { zones }).or_else(|| {
        let chips = chips(class)
            .filter(|(name, _)| PROCESSORS.contains(&name.as_str()))
            .filter_map(|(_, chip)| milli(&chip.join("temp1_input")));
        hottest(&mut { chips })
    })
}

/// What the whole board takes.
fn power(class: &Path) -> Option<f64> {
    let module = |chip: &Path| {
        let channel = (1..=3).find(|n| {
            text(&chip.join(format!("in{n}_label"))).is_some_and(|label| label == WHOLE_MODULE)
        })?;
        let volts = milli(&chip.join(format!("in{channel}_input")))?;
        Some(volts * milli(&chip.join(format!("curr{channel}_input")))?)
    };
    // In µW.
    let watts = |file: PathBuf| Some(milli(&file)? / 1000.0);
    chips(class)
        .find_map(|(name, chip)| match name.as_str() {
            "ina3221" => module(&chip),
            "power_meter" => watts(chip.join("power1_average")),
            name if SUPPLIES.contains(&name) => watts(chip.join("power1_input")),
            _ => None,
        })
        .filter(|watts| (0.0..10_000.0).contains(watts))
}

/// The chips of `hwmon`, by their drivers' names.
fn chips(class: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    folders(class.join("hwmon")).filter_map(|chip| Some((text(&chip.join("name"))?, chip)))
}

/// What is in a folder, in the order of its names; nothing where there is none.
fn folders(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    found.sort();
    found.into_iter()
}

fn text(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

/// A number of thousandths.
fn milli(file: &Path) -> Option<f64> {
    Some(text(file)?.parse::<i64>().ok()? as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said of a tree with these files.
    fn figures(files: &[(&str, &str)]) -> Value {
        let class = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = class.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            // The kernel ends each with a line's end.
            fs::write(file, format!("{text}\n")).unwrap();
        }
        Value::Object(read(class.path()))
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
