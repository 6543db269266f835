//! The state machine of the panel: one step for each thing that happened.
//!
//! In: [`Inputs`], all of what is known now. Out: [`Outputs`], all of what is to be so now; two of them, a stop and a
//! shutdown, are wishes of that moment. It never shows what it does not know: without `serve`'s word there is no
//! "ready", and "private" is shown only when `serve` has said that it takes no prompt.

use crate::button::{Button, Press, earliest};
use crate::device::Fault;
use crate::display::Pages;
use crate::energy::{Account, plausible};
use crate::inputs::{Engine, Inputs, Phase};
use crate::light::pattern;
use crate::obeyed::Obeyed;
use crate::outputs::{Outputs, Problems, Shown};
use crate::privacy::PrivacySwitch;
use crate::thermal::{Cooling, Law, Limits, MAX_SENSORS, Throttle};
use crate::units::{Duty, Millis};
use crate::watchdog::{Pulse, Signs};

/// How long `serve` may be away until that is a fault: it starts, or is started again.
pub const STARTS_WITHIN: Millis = Millis::seconds(90);
/// How long it may not serve, be it that it loads a model; systemd gives it as much.
pub const LOADS_WITHIN: Millis = Millis::seconds(900);
/// How long a shutdown may take until it has failed.
pub const SHUTS_DOWN_WITHIN: Millis = Millis::seconds(120);
/// How often is measured: while it works, and while it rests.
const MEASURE_WORKING: Millis = Millis::seconds(1);
const MEASURE_RESTING: Millis = Millis::seconds(2);

#[derive(Clone, Copy, Debug)]
enum Shutdown {
    Asked,
    Failed(Fault),
    Ignored,
}

/// The panel.
#[derive(Clone, Debug)]
pub struct Panel {
    button: Button,
    switch: PrivacySwitch,
    obeyed: Obeyed,
    law: Law,
    account: Account,
    pages: Pages,
    pulse: Pulse,
    cooling: Cooling,
    power_fault: Option<Fault>,
    measure_at: Millis,
    away_since: Option<Millis>,
    /// Since when `serve` does not serve, for whatever reason.
    unready_since: Option<Millis>,
    /// What became of the last wish to shut down, and since when.
    shutdown: Option<(Millis, Shutdown)>,
    shown: (Shown, Millis),
}

impl Panel {
    /// Of a board that can bear so much, as it is at the start, before anything is known: the fan is full.
    pub fn new(limits: Limits) -> Self {
        Self {
            button: Button::default(),
            switch: PrivacySwitch::default(),
            obeyed: Obeyed::default(),
            law: Law::new(limits),
            account: Account::default(),
            pages: Pages::default(),
            pulse: Pulse::default(),
            cooling: Cooling {
                duty: Duty::FULL,
                throttle: Throttle::None,
                hot: false,
                temperature: None,
                doubts: [None; MAX_SENSORS],
                fan_fault: None,
            },
            power_fault: None,
            measure_at: Millis(0),
            away_since: None,
            unready_since: None,
            shutdown: None,
            shown: (Shown::Starting, Millis(0)),
        }
    }

    /// Takes what is known at this moment.
    pub fn step(&mut self, now: Millis, inputs: &Inputs) -> Outputs {
        let (phase, serve) = match inputs.engine {
            Engine::Serving {
                phase,
                private,
                throttle,
            } => (phase, Some((private, throttle))),
            _ => (Phase::Idle, None),
        };
        let serve_private = serve.and_then(|(private, _)| private);
        let working = phase != Phase::Idle;
        self.measure(now, inputs, working);

        let mut problems = Problems {
            engine: self.engine_fails(now, inputs.engine),
            button: inputs.button.and_then(Result::err),
            privacy_switch: inputs.privacy_switch.and_then(Result::err),
            sensors: self.cooling.doubts,
            fan: self.cooling.fan_fault,
            power: self.power_fault,
            other: inputs.other_fault,
            ..Problems::default()
        };
        let heard = match inputs.button {
            Some(Ok(closed)) => self.button.update(now, closed),
            _ => {
                // What it does meanwhile nobody sees: it may have been let go.
                self.button = Button::default();
                Default::default()
            }
        };
        problems.button_stuck = heard.stuck;
        let decided = inputs
            .privacy_switch
            .map(|contact| self.switch.update(now, contact, serve_private));
        // While it is away, that is the fault.
        problems.privacy_ignored =
            serve.is_some() && decided.is_some_and(|decided| decided.ignored);
        problems.privacy_unwired =
            matches!(serve, Some((None, _))) && inputs.privacy_switch.is_none();
        let slowed = serve.map(|(_, throttle)| throttle);
        problems.throttle_ignored = self.obeyed.ignored(now, self.cooling.throttle, slowed);
        self.follow_shutdown(now, inputs.shutdown_asked);
        (problems.shutdown, problems.shutdown_ignored) = match self.shutdown {
            Some((_, Shutdown::Failed(fault))) => (Some(fault), false),
            Some((_, Shutdown::Ignored)) => (None, true),
            Some((_, Shutdown::Asked)) | None => (None, false),
        };

        let shown = self.choose(inputs.engine, &problems);
        if shown != self.shown.0 {
            self.shown = (shown, now);
        }
        let (light, changes) = pattern(shown).at(now.since(self.shown.1));
        let pressed = heard.press == Some(Press::Short);
        let (view, turns) = self.pages.update(now, pressed, working);
        let idle = serve.is_some() && !working;
        let again = earliest([
            Some(self.measure_at),
            Some(turns),
            changes.map(|after| self.shown.1 + after),
            heard.again,
            decided.and_then(|decided| decided.again),
        ]);
        Outputs {
            shown,
            light,
            view,
            fan: self.cooling.duty,
            throttle: self.cooling.throttle,
            private: decided.map(|decided| decided.private),
            stop_answers: pressed && !idle,
            shut_down: heard.press == Some(Press::Long),
            feed: self.pulse.update(
                now,
                Signs {
                    answers: !matches!(inputs.engine, Engine::Away | Engine::Silent),
                    working,
                    steps: inputs.steps,
                    tests: inputs.tests,
                },
            ),
            temperature: self.cooling.temperature,
            joules_per_token: self.account.per_token(),
            last_day: self.account.last_day(),
            total: self.account.total(),
            problems,
            measure_at: self.measure_at,
            again: again.unwrap_or(self.measure_at),
        }
    }

    fn measure(&mut self, now: Millis, inputs: &Inputs, working: bool) {
        let Some(measured) = &inputs.measured else {
            return;
        };
        self.cooling = self.law.update(now, measured);
        let power = inputs.power.map(|power| power.and_then(plausible));
        self.power_fault = power.and_then(Result::err);
        let power = power.and_then(Result::ok);
        self.account.update(now, power, working, inputs.tokens);
        let resting = !working && !self.cooling.hot;
        self.measure_at = now
            + if resting {
                MEASURE_RESTING
            } else {
                MEASURE_WORKING
            };
    }

    /// A machine that is still here after a while goes on; what was wrong is said for as long.
    fn follow_shutdown(&mut self, now: Millis, asked: Option<Result<(), Fault>>) {
        self.shutdown = match (asked, self.shutdown) {
            (Some(Ok(())), _) => Some((now, Shutdown::Asked)),
            (Some(Err(fault)), _) => Some((now, Shutdown::Failed(fault))),
            (None, Some((since, of))) if now.since(since) >= SHUTS_DOWN_WITHIN => match of {
                Shutdown::Asked => Some((now, Shutdown::Ignored)),
                Shutdown::Failed(_) | Shutdown::Ignored => None,
            },
            (None, before) => before,
        };
    }

    fn engine_fails(&mut self, now: Millis, engine: Engine) -> bool {
        if matches!(engine, Engine::Serving { .. }) {
            (self.away_since, self.unready_since) = (None, None);
            return false;
        }
        let unready_since = *self.unready_since.get_or_insert(now);
        let away_since = match engine {
            Engine::Away => *self.away_since.get_or_insert(now),
            _ => now,
        };
        if engine != Engine::Away {
            self.away_since = None;
        }
        matches!(engine, Engine::Failed | Engine::Silent)
            || now.since(away_since) >= STARTS_WITHIN
            || now.since(unready_since) >= LOADS_WITHIN
    }

    fn choose(&self, engine: Engine, problems: &Problems) -> Shown {
        if matches!(self.shutdown, Some((_, Shutdown::Asked))) {
            return Shown::ShuttingDown;
        }
        // That nobody is heard is what matters most to who turned the switch, and true whatever else is.
        let private = matches!(
            engine,
            Engine::Serving {
                private: Some(true),
                ..
            }
        );
        if private && !problems.privacy_ignored {
            return Shown::Private;
        }
        if self.cooling.hot {
            return Shown::TooHot;
        }
        if problems.any() {
            return Shown::Broken;
        }
        match engine {
            Engine::Away | Engine::Silent | Engine::Loading | Engine::Failed => Shown::Starting,
            // It takes no prompts yet.
            Engine::Serving { private: None, .. } => Shown::Starting,
            Engine::Serving { phase, .. } => match phase {
                Phase::Idle => Shown::Ready,
                Phase::Reading => Shown::Reading,
                Phase::Thinking => Shown::Thinking,
                Phase::Answering => Shown::Answering,
            },
        }
    }
}
