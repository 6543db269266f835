//! NVIDIA's Jetson Orin modules: `pwm-fan`, INA3221 over hwmon, thermal zones.

use super::{Board, Machine, Table, bind as bound};

/// Binds what this machine has of it.
pub fn bind(machine: &Machine, table: &Table, board: &mut Board) {
    bound::devices(machine, table, board);
    bound::slowed_processor(machine, board);
}
