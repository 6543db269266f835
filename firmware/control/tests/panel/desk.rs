//! A panel, its time, and what it is told.

use cloister_control::device::Fault;
use cloister_control::thermal::{Measured, Sample, Throttle};
use cloister_control::units::{Celsius, Millis, Rpm, Watts};
use cloister_control::{Engine, Inputs, Outputs, Panel, Phase};

use crate::limits::LIMITS;

pub const READY: Engine = serving(Phase::Idle, Some(false));
pub const PRIVATE: Engine = serving(Phase::Idle, Some(true));
pub const UNHEARD: Engine = serving(Phase::Idle, None);

pub const fn serving(phase: Phase, private: Option<bool>) -> Engine {
    Engine::Serving {
        phase,
        private,
        throttle: Throttle::None,
    }
}

pub fn working(phase: Phase) -> Engine {
    serving(phase, Some(false))
}

/// A panel, its time, and what it is told.
pub struct Desk {
    pub panel: Panel,
    pub now: Millis,
    pub engine: Engine,
    /// How far `serve` is slowed; none for one that does as it was asked by the step before.
    pub slowed: Option<Throttle>,
    asked: Throttle,
    pub button: Option<Result<bool, Fault>>,
    pub switch: Option<Result<bool, Fault>>,
    pub degrees: Result<f32, Fault>,
    pub on_die: bool,
    pub soc_throttles: Option<bool>,
    pub rpm: u32,
    pub power: Result<f32, Fault>,
    pub tokens: u64,
    /// Whether `serve` passes a self-test each minute.
    pub computes: bool,
    /// What becomes of the next wish to shut down, and what did of the last one.
    pub shutdown: Result<(), Fault>,
    pub shutdown_asked: Option<Result<(), Fault>>,
}

impl Desk {
    pub fn new() -> Self {
        Self {
            panel: Panel::new(LIMITS),
            now: Millis(5000),
            engine: READY,
            slowed: None,
            asked: Throttle::None,
            button: Some(Ok(false)),
            switch: Some(Ok(false)),
            degrees: Ok(45.0),
            on_die: false,
            soc_throttles: None,
            rpm: 3000,
            power: Ok(6.0),
            tokens: 0,
            computes: true,
            shutdown: Ok(()),
            shutdown_asked: None,
        }
    }

    pub fn step(&mut self) -> Outputs {
        let sensors = [Sample {
            reading: self.degrees.map(Celsius),
            limit: LIMITS.limit,
            on_die: self.on_die,
        }];
        let mut engine = self.engine;
        if let Engine::Serving { throttle, .. } = &mut engine {
            *throttle = self.slowed.unwrap_or(self.asked);
        }
        let outputs = self.panel.step(
            self.now,
            &Inputs {
                engine,
                tokens: Some(self.tokens),
                steps: Some(self.tokens),
                tests: if self.computes { self.now.0 / 60_000 } else { 0 },
                button: self.button,
                privacy_switch: self.switch,
                measured: Some(Measured {
                    sensors: &sensors,
                    fan: Some(Ok(())),
                    tachometer: Some(Ok(Rpm(self.rpm))),
                    soc_throttles: self.soc_throttles,
                    working: matches!(self.engine, Engine::Serving { phase, .. } if phase != Phase::Idle),
                }),
                power: Some(self.power.map(Watts)),
                other_fault: false,
                shutdown_asked: self.shutdown_asked.take(),
            },
        );
        self.asked = outputs.throttle;
        if outputs.shut_down {
            self.shutdown_asked = Some(self.shutdown);
        }
        outputs
    }

    /// Goes on for so long, and is asked whenever it wants to be.
    pub fn after(&mut self, span: Millis) -> Outputs {
        let end = self.now + span;
        loop {
            let outputs = self.step();
            assert!(outputs.again > self.now, "it would be asked for ever");
            if outputs.again >= end {
                self.now = end;
                return self.step();
            }
            self.now = outputs.again;
        }
    }
}

/// What follows as the button is let go.
pub fn press(desk: &mut Desk) -> Outputs {
    desk.button = Some(Ok(true));
    desk.after(Millis(100));
    desk.button = Some(Ok(false));
    let let_go = desk.step();
    desk.now = let_go.again;
    desk.step()
}
