//! Any machine: what the kernel offers by itself.

use cloister_sysfs::thermal::SlowedProcessor;

use super::{Board, Machine, Table, bind as bound};

/// Binds what this machine has of it.
pub fn bind(machine: &Machine, table: &Table, board: &mut Board) {
    bound::devices(machine, table, board);
    let place = "cooling device cpufreq-* or Processor";
    let place = (place, "the kernel has none");
    bound::slowed(machine, board, place, "kernel", SlowedProcessor::of);
}
