//! Raspberry Pi 3, 4 and 5: what their tables name, and the firmware's throttled flags.

use cloister_control::device::{Fault, SocThrottle};

use super::{Board, Late, Machine, Table, bind as bound};
use crate::drivers::throttled::Throttled;

/// Binds what this machine has of it.
pub fn bind(machine: &Machine, table: &Table, board: &mut Board) {
    bound::devices(machine, table, board);
    let place = "get_throttled of the firmware";
    let why = "only Raspberry Pi's own kernels tell";
    let does = "tells when the firmware slows the processor because of heat";
    let machine = machine.clone();
    let mut flags = Late::new(false, move || {
        let flags = Throttled::of(&machine).ok_or(Fault::Absent)?;
        Ok(Box::new(flags) as Box<dyn SocThrottle>)
    });
    board.asks("throttling", place, &mut flags, why, |flags| {
        flags.read().map(|_| does.into())
    });
    board.soc = Some(flags);
}
