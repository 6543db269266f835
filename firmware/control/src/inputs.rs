//! What the panel is told.

use crate::device::Fault;
use crate::thermal::{Measured, Throttle};
use crate::units::Watts;

/// How far the running answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// Its prompt is read.
    Reading,
    /// Its thought is written.
    Thinking,
    /// Its text is written.
    Answering,
}

/// What `serve` says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Nothing: it is not there.
    #[default]
    Away,
    /// Nothing, though it is there: it hangs.
    Silent,
    /// It loads a model.
    Loading,
    /// It has failed, and says so.
    Failed,
    /// It answers, or would.
    Serving {
        /// How far it is.
        phase: Phase,
        /// Whether it takes no prompts because the privacy switch is on; none where the box has one and `serve` has not heard
        /// where it stands, and takes none, either.
        private: Option<bool>,
        /// How far it is slowed.
        throttle: Throttle,
    },
}

/// All of what is known now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// What `serve` says.
    pub engine: Engine,
    /// Tokens that it has generated since its start, if it says so.
    pub tokens: Option<u64>,
    /// Steps that it has computed since its start, if it says so.
    pub steps: Option<u64>,
    /// How many of its self-tests have passed since the panel's start.
    pub tests: u64,
    /// The button, closed when pressed; none on a board that has none.
    pub button: Option<Result<bool, Fault>>,
    /// The privacy switch, closed for private; none on a board that has none.
    pub privacy_switch: Option<Result<bool, Fault>>,
    /// What was measured just now; none between measurements.
    pub measured: Option<Measured<'a>>,
    /// The power that was measured with it.
    pub power: Option<Result<Watts, Fault>>,
    /// Whether another device (display, watchdog) does not do what it should.
    pub other_fault: bool,
    /// At this moment: whether the shutdown that was wished for could be asked for.
    pub shutdown_asked: Option<Result<(), Fault>>,
}
