//! Raspberry Pi 3, 4 and 5: what their tables name, and the firmware's throttled flags.

use super::{Board, Machine, Table, bind as bound};
use crate::drivers::throttled::Throttled;

/// Binds what this machine has of it.
pub fn bind(machine: &Machine, table: &Table, board: &mut Board) {
    bound::devices(machine, table, board);
    let why = "only Raspberry Pi's own kernels tell";
    let place = ("get_throttled of the firmware", why);
    bound::slowed(machine, board, place, "firmware", Throttled::of);
}
