//! What is known of a board before anything is looked for: one TOML file for each, in `boards/`.

use cloister_control::thermal::Limits;
use cloister_control::units::{Celsius, Duty};
use serde::Deserialize;

use super::devices::Devices;
use super::{Bind, generic, raspberry_pi};

/// The tables, and what binds them, where that is more than what the kernel offers by itself; the last one is for every
/// machine.
const BOARDS: [(&str, Bind); 4] = [
    (
        include_str!("../../boards/raspberry-pi-5.toml"),
        raspberry_pi::bind,
    ),
    (
        include_str!("../../boards/raspberry-pi.toml"),
        raspberry_pi::bind,
    ),
    (include_str!("../../boards/jetson-orin.toml"), generic::bind),
    (include_str!("../../boards/generic.toml"), generic::bind),
];

/// A board's table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    /// By what name the owner calls it.
    pub name: String,
    /// By what names the device tree does.
    #[serde(default)]
    pub compatible: Vec<String>,
    limits: LimitsTable,
    /// Which devices it has, and where.
    #[serde(default)]
    pub devices: Devices,
}

/// [`Limits`] in °C, and the least duty of the fan in percent.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    fan_starts: f32,
    fan_full: f32,
    throttle: f32,
    critical: f32,
    limit: f32,
    soc_slows: f32,
    fan_least_percent: u8,
}

impl Table {
    /// Whether it is that of a machine whose device tree has these names.
    pub fn is_called_any_of(&self, names: &[String]) -> bool {
        self.compatible.iter().any(|name| names.contains(name))
    }

    /// What the board can bear.
    pub fn limits(&self) -> Limits {
        let of = &self.limits;
        Limits {
            fan_starts: Celsius(of.fan_starts),
            fan_full: Celsius(of.fan_full),
            throttle: Celsius(of.throttle),
            critical: Celsius(of.critical),
            limit: Celsius(of.limit),
            soc_slows: Celsius(of.soc_slows),
            fan_least: Duty::share(f32::from(of.fan_least_percent) / 100.0),
        }
    }
}

/// What is wrong with a board's table, or with what the owner calls the board.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// There is no such board.
    #[error("there is no board {named:?}; known are: {known}")]
    Unknown {
        /// What the owner said.
        named: String,
        /// The names there are.
        known: String,
    },
    /// A table cannot be read.
    #[error("a board's table: {0}")]
    Wrong(String),
}

impl TableError {
    pub(super) fn unknown(named: &str, tables: &[(Table, Bind)]) -> Self {
        let known: Vec<_> = tables.iter().map(|(table, _)| &*table.name).collect();
        Self::Unknown {
            named: named.to_owned(),
            known: known.join(", "),
        }
    }
}

/// Every board that is known.
pub(super) fn all() -> Result<Vec<(Table, Bind)>, TableError> {
    let tables = BOARDS.iter().map(|(text, bind)| {
        let table: Table =
            toml::from_str(text).map_err(|error| TableError::Wrong(error.to_string()))?;
        table
            .limits()
            .check()
            .map_err(|wrong| TableError::Wrong(format!("{}: {wrong}", table.name)))?;
        Ok((table, *bind))
    });
    tables.collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Machine, find};

    #[test]
    fn a_board_is_known_by_its_device_tree_or_by_the_owners_word() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::below(root.path());
        assert_eq!(find(&machine, None).unwrap().name, "generic");
        std::fs::create_dir_all(root.path().join("proc/device-tree")).unwrap();
        for (names, board) in [
            ("raspberrypi,5-model-b\0brcm,bcm2712\0", "raspberry-pi-5"),
            ("raspberrypi,500\0brcm,bcm2712\0", "raspberry-pi-5"),
            (
                "raspberrypi,4-compute-module-s\0brcm,bcm2711\0",
                "raspberry-pi",
            ),
            ("raspberrypi,model-zero-2-w\0brcm,bcm2837\0", "raspberry-pi"),
        ] {
            std::fs::write(root.path().join("proc/device-tree/compatible"), names).unwrap();
            assert_eq!(find(&machine, None).unwrap().name, board);
        }
        assert_eq!(
            find(&machine, Some("jetson-orin")).unwrap().name,
            "jetson-orin"
        );
        let error = find(&machine, Some("toaster")).err().unwrap().to_string();
        assert!(
            error.contains("\"toaster\"") && error.contains("generic"),
            "{error}"
        );
    }
}
