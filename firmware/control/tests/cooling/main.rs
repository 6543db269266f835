//! The thermal law on a simulated board, with figures that are drawn, as what holds for one alone may be luck; and with
//! readings that are made up.

mod board;
#[path = "../common/limits.rs"]
mod limits;
mod on_a_board;
mod properties;
mod readings;
