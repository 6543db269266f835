//! The harness of the end-to-end tests: real programs on free ports, ended with the test.
//!
//! In: the release build of the programs, the models that `tests/fetch` got. Out: running services and
//! clients for them. Must never leave a process behind or reach another host.

pub mod browser;
pub mod http;
pub mod page;
pub mod parts;
pub mod process;
pub mod python;
pub mod raw;
pub mod serve;
pub mod sinkhole;
pub mod traces;
pub mod up;
