//! Any machine: what the kernel offers by itself.

use super::{Board, Machine, Table, bind as bound};

/// Binds what this machine has of it.
pub fn bind(machine: &Machine, table: &Table, board: &mut Board) {
    bound::devices(machine, table, board);
    bound::slowed_processor(machine, board);
}
