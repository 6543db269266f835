//! Raspberry Pi 5: `cooling_fan` or hwmon, the firmware's throttled flags, GPIO of `pinctrl-rp1`.

use super::{Board, Machine, Table};

/// Binds what this machine has of it.
pub fn bind(_machine: &Machine, _table: &Table, _board: &mut Board) {}
