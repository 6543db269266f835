//! NVIDIA's Jetson Orin modules: `pwm-fan`, INA3221 over hwmon, thermal zones.

use super::{Board, Machine, Table};

/// Binds what this machine has of it.
pub fn bind(_machine: &Machine, _table: &Table, _board: &mut Board) {}
