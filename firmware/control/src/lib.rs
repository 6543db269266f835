//! The laws of the panel: what the light says, what a press means, how the box keeps itself cool.
//!
//! In: the time, what sensors and contacts say, what `serve` says of itself. Out: [`Outputs`]: what the light, the fan
//! and the display are to do, what `serve` is to be asked, and when to call again.
//! Must never read a clock, touch a device, allocate or know a board.

#![no_std]

pub mod button;
pub mod device;
pub mod display;
pub mod energy;
mod inputs;
pub mod light;
pub mod obeyed;
mod outputs;
mod panel;
pub mod plant;
pub mod privacy;
pub mod thermal;
pub mod units;
pub mod watchdog;

pub use inputs::{Engine, Inputs, Phase};
pub use outputs::{Outputs, Problems, Shown};
pub use panel::{LOADS_WITHIN, Panel, SHUTS_DOWN_WITHIN, STARTS_WITHIN};
