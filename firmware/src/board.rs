//! A board: its devices, bound to the traits that the laws know.
//!
//! In: the machine's trees of files, and a table in TOML that says what is where. Out: a [`Board`]: drivers for what was
//! found or may still come, and a [`Finding`] for all that was looked for. A new board is one table in `boards/`, and one file
//! here if it has something of its own.
//! Must never pretend: what is not there is a finding that says so, and a [`Fault`] of what was wired. Must never decide anything.

pub mod aside;
mod bind;
mod buses;
pub mod devices;
mod findings;
mod generic;
mod late;
mod panel;
mod raspberry_pi;
mod table;
mod thermometers;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use cloister_control::device::{
    FanDrive, Fault, PowerMeter, SocThrottle, StatusLight, Tachometer, Thermometer, Watchdog,
};
use cloister_control::thermal::Limits;
use cloister_control::units::Celsius;
use serde::Serialize;

pub use cloister_sysfs::Machine;
use devices::Devices;
pub use late::Late;
pub use table::{Table, TableError};
pub use thermometers::Sought;

/// A board: what it can bear, and drivers for what it has.
pub struct Board {
    /// Its name, that of its table.
    pub name: String,
    /// Whether it is none.
    pub is_simulated: bool,
    /// What it can bear.
    pub limits: Limits,
    /// Its thermometers, which keep their places.
    pub thermometers: Vec<Sensor>,
    /// Whether there are more that the owner has wired than the laws follow.
    pub wired_beyond: bool,
    /// What measures the power of the whole board.
    pub power: Option<Late<dyn PowerMeter>>,
    /// What drives its fan.
    pub fan: Option<Late<dyn FanDrive>>,
    /// What measures how fast that turns.
    pub tachometer: Option<Late<dyn Tachometer>>,
    /// What tells that the SoC's firmware slows the processor.
    pub soc: Option<Late<dyn SocThrottle>>,
    /// The status light.
    pub light: Option<Late<dyn StatusLight>>,
    /// The display.
    pub display: Option<Late<dyn Display>>,
    /// The button, closed while it is pressed.
    pub button: Option<Late<dyn Contact>>,
    /// The privacy switch, closed for private.
    pub privacy_switch: Option<Late<dyn Contact>>,
    /// The hardware watchdog, which its first feeding starts: from then on it resets the machine when nobody feeds it.
    pub watchdog: Option<Late<dyn Watchdog>>,
    /// Thermometers that are named and not there yet.
    pub sought: Vec<Sought>,
    /// What was looked for, for `probe`, in the order of the looking.
    pub findings: Vec<Finding>,
    /// Folders below which drivers open the files of devices while they run.
    pub folders: BTreeSet<&'static str>,
}

impl Board {
    /// One without any device.
    pub fn bare(name: String, limits: Limits) -> Self {
        Self {
            name,
            is_simulated: false,
            limits,
            thermometers: Vec::new(),
            wired_beyond: false,
            power: None,
            fan: None,
            tachometer: None,
            soc: None,
            light: None,
            display: None,
            button: None,
            privacy_switch: None,
            watchdog: None,
            sought: Vec::new(),
            findings: Vec::new(),
            folders: BTreeSet::new(),
        }
    }
}

/// A thermometer at its place.
pub struct Sensor {
    /// What the kernel, or the board's table, calls it: `cpu-thermal`.
    pub name: String,
    /// What it must never exceed; that of [`Limits::limit`] for the processor's own.
    pub limit: Celsius,
    /// Whether it is on the processor's die.
    pub on_die: bool,
    /// Its driver.
    pub device: Late<dyn Thermometer>,
}

/// A contact: a button or a switch.
pub trait Contact {
    /// Whether it is closed now. Polarity and pull-ups are the driver's matter; bouncing is not.
    ///
    /// # Errors
    /// The line is gone or taken.
    fn is_closed(&mut self) -> Result<bool, Fault>;

    /// Waits until it may have changed since the last look. May be dropped at any time, and loses nothing then. For a
    /// line that is gone it comes within a second, so that the next look sees it.
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// What a display shows: a few lines of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// From the top; what does not fit into its width may be cut.
    pub lines: Vec<String>,
    /// By how many pixels all of it is moved to the right and down, 0 to 2 each.
    pub moved: (u8, u8),
}

/// A small display.
pub trait Display {
    /// How many characters a line has, and how many lines there are.
    fn size(&self) -> (usize, usize);

    /// Shows this from now on, or is dark. May be told the same again and again.
    ///
    /// # Errors
    /// The device does not answer.
    fn show(&mut self, screen: Option<&Screen>) -> Result<(), Fault>;
}

/// Something that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What for: `fan`, `temperature`, `power`, `light`, `button`, `privacy switch`, `display`, `watchdog`.
    pub what: &'static str,
    /// Where: a path, an address on a bus, a line of a chip by its label.
    pub place: String,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Outcome {
    /// It is there.
    Found {
        /// What the panel does with it, in a few words.
        does: String,
    },
    /// It is not, or cannot be used.
    Missing {
        /// Why, in a few words, and what to do about it.
        why: String,
    },
}

/// Finds out which board this machine is, and binds its devices. `named` is the owner's word for it, if there is one.
///
/// # Errors
/// There is no board of that name, or its table is wrong.
pub fn find(machine: &Machine, named: Option<&str>) -> Result<Board, TableError> {
    find_wired(machine, named, Devices::default())
}

/// As [`find`], with what the owner has wired to the board besides, or instead of, what its table names.
///
/// # Errors
/// As [`find`].
pub fn find_wired(
    machine: &Machine,
    named: Option<&str>,
    wired: Devices,
) -> Result<Board, TableError> {
    let mut tables = table::all()?;
    let compatible = machine.compatible();
    let known = |(table, _): &(Table, Bind)| match named {
        Some(named) => table.name == named,
        None => table.is_called_any_of(&compatible),
    };
    let (mut table, bind) = match (tables.iter().position(known), named) {
        (Some(place), _) => tables.swap_remove(place),
        (None, Some(named)) => return Err(TableError::unknown(named, &tables)),
        (None, None) => tables.pop().expect("the generic one is always there"),
    };
    let mut board = Board::bare(table.name.clone(), table.limits());
    table.devices = wired.or(table.devices);
    bind(machine, &table, &mut board);
    Ok(board)
}

/// Binds the devices that the table and the machine have.
type Bind = fn(&Machine, &Table, &mut Board);
