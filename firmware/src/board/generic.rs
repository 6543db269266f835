//! Any machine: what the kernel offers by itself.

use super::{Board, Machine, Table};

/// Binds what this machine has of it.
pub fn bind(_machine: &Machine, _table: &Table, _board: &mut Board) {}
