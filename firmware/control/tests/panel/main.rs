//! The panel as a whole: every state is reached, and none is shown that is not so.

mod button;
mod desk;
mod light;
#[path = "../common/limits.rs"]
mod limits;
mod properties;
mod states;
mod watchdog;
