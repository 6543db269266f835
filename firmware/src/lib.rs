//! `cloister-panel`: shows what the box does, takes presses of its buttons, and keeps it cool.
//!
//! In: the devices of a board, and what `serve` says of itself over the Unix socket. Out: what the laws of
//! `cloister-control` decide, done.
//! Must never decide anything about light, heat or privacy here, and must never use a network.

pub mod board;
pub mod desk;
pub mod drivers;
pub mod link;
pub mod options;
pub mod report;
pub mod simulate;
