//! Raspberry Pi 5: its fan over hwmon, the firmware's throttled flags, GPIO of `pinctrl-rp1`.

use cloister_control::device::SocThrottle;

use super::{Board, Machine, Table, bind as bound};
use crate::drivers::throttled::Throttled;

/// Binds what this machine has of it.
pub fn bind(machine: &Machine, table: &Table, board: &mut Board) {
    bound::devices(machine, table, board);
    let place = "get_throttled of the firmware";
    match Throttled::of(machine) {
        Some(mut flags) => {
            let does = "tells when the firmware slows the processor because of heat";
            board.tried("throttling", place, flags.read().map(|_| does.into()));
            board.reads.extend(flags.file().parent().map(Into::into));
            board.soc = Some(Box::new(flags));
        }
        None => board.missing("throttling", place, "only Raspberry Pi's own kernels tell"),
    }
}
