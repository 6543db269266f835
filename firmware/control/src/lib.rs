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
pub mod light;
mod panel;
pub mod privacy;
pub mod thermal;
pub mod units;
pub mod watchdog;

pub use panel::{
    Engine, Inputs, LOADS_WITHIN, Outputs, Panel, Phase, Problems, SHUTS_DOWN_WITHIN,
    STARTS_WITHIN, Shown,
};
