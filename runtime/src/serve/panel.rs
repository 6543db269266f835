//! `/api/panel`: what the box's own panel wants, which goes before what anybody asks by another API.
//!
//! In: reports of `cloister-panel`, over the Unix socket alone. Out: an engine that is closed, slowed or free, and the
//! board's figures for who wants them. Must never take a wish from the network or from who asks for others; must never
//! open what the privacy switch has closed, not even by a restart.

mod routes;
mod switch;
mod told;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use anyhow::Context;
use cloister_engine::{Pace, Restraint};
use cloister_program::panel::{Board, PanelReport, Throttle};
use serde_json::{Map, Value};

pub use self::routes::{Door, door, pair, stop, tell, test};
use self::switch::{Stands, Switch};
use self::told::{Said, Told};
use super::models::Models;
use super::peer::Users;
use super::privacy::Ledger;

/// What the panel has told, and whom it holds back.
pub struct Panel {
    models: Arc<Models>,
    ledger: Arc<Ledger>,
    restraint: Arc<Restraint>,
    door: Door,
    /// The users whose programs may speak as the panel.
    users: Users,
    /// Held while a report is obeyed, so that on and off do not overtake each other.
    known: Mutex<Known>,
}

/// What is known by reports.
struct Known {
    told: Told,
    switch: Switch,
    /// Whether the switch of a simulated panel is on.
    simulated: bool,
    /// How far the engine is slowed.
    throttle: Throttle,
}

impl Known {
    fn is_on(&self) -> bool {
        self.simulated || self.switch.stands() == Stands::On
    }

    /// Nobody speaks for the box's own switch.
    fn falls_silent(&mut self) {
        if self.switch.is_heard() {
            self.switch.falls_silent();
            if !self.switch.is_heard() {
                tracing::warn!(
                    "no panel says where this box's privacy switch stands: no prompts are taken until one does; who takes it \
                     out of the box removes {} and starts serve again",
                    self.switch.file().display()
                );
            }
        }
    }
}

impl Panel {
    /// With the switch as it was known last.
    pub fn new(
        models: Arc<Models>,
        ledger: Arc<Ledger>,
        restraint: Arc<Restraint>,
        state: &Path,
        door: Door,
        users: Users,
    ) -> Self {
        let switch = Switch::of(state);
        match switch.stands() {
            Stands::Nowhere => {}
            Stands::Off => tracing::info!(
                "this box has a privacy switch: prompts are taken once its panel says that it is off; who takes it out of the \
                 box removes {} and starts serve again",
                switch.file().display()
            ),
            Stands::On => {
                tracing::info!(
                    "the privacy switch was on when it was heard of last: no prompts are taken until it is off"
                );
                // Nothing can have come since then, but the power may have gone.
                ledger.erase_stored();
            }
        }
        let panel = Self {
            models,
            ledger,
            restraint,
            door,
            users,
            known: Mutex::new(Known {
                told: Told::default(),
                switch,
                simulated: false,
                throttle: Throttle::default(),
            }),
        };
        panel.hold(&panel.known());
        panel
    }

    /// The models that are held back.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// How far the engine is slowed: 0 to 4.
    pub fn throttle(&self) -> u8 {
        self.known().throttle.step()
    }

    /// What the board measures by the panel's word; none without a panel.
    pub fn board(&self) -> Option<Board> {
        self.known().told.board(Instant::now())
    }

    /// Has the engine go on when the panel is gone, as nobody would ever say so: at half speed if it was slowed, for
    /// the box may be as hot as it was. A box with a privacy switch takes no prompts then: it may be turned, and nobody
    /// would say so.
    pub async fn outlive(&self) {
        loop {
            tokio::time::sleep(told::SILENT / 6).await;
            let mut known = self.known();
            if let Some(throttle) = known.told.silenced(Instant::now()) {
                tracing::warn!(
                    "the panel is silent: until one is there the engine is slowed by {} of 4 steps",
                    throttle.step()
                );
                known.simulated = false;
                known.falls_silent();
                self.slow(&mut known, throttle);
                self.hold(&known);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while held")
    }

    /// Has nobody answered unless the switch is known to be off.
    fn hold(&self, known: &Known) {
        let off = known.switch.is_heard().then_some(false);
        let on = known.is_on().then_some(true);
        self.restraint.set_private(on.or(off));
    }

    fn slow(&self, known: &mut Known, throttle: Throttle) {
        known.throttle = throttle;
        self.restraint.set_pace(pace(throttle));
    }

    /// Does as a panel says.
    ///
    /// # Errors
    /// It holds, and a restart would not know of it.
    fn obey(self: &Arc<Self>, report: PanelReport) -> anyhow::Result<()> {
        let mut known = self.known();
        let said = known.told.take(Instant::now(), report);
        let turned = self.turn(&mut known, said);
        self.slow(&mut known, said.throttle);
        turned
    }

    /// Does as the switches say; without a word of the box's own it stands where it was, and nobody knows whether it does.
    fn turn(self: &Arc<Self>, known: &mut Known, said: Said) -> anyhow::Result<()> {
        let was_on = known.is_on();
        let turned_on = (said.private == Some(true) || said.simulated) && !was_on;
        if turned_on {
            // First of all, whatever else then fails.
            self.restraint.set_private(Some(true));
            tracing::info!(
                "the privacy switch is on: no prompts are taken, and what is kept is erased"
            );
            // Before it is written down that it is on: by that a restart would take it for erased.
            self.ledger.order_all();
            let ledger = self.ledger.clone();
            tokio::spawn(async move { ledger.forget_all().await });
        }
        known.simulated = said.simulated;
        let turned = match said.private {
            Some(on) => known.switch.turn(on),
            None => {
                known.falls_silent();
                Ok(())
            }
        };
        self.hold(known);
        if turned_on {
            return turned.context("the box would forget its privacy switch at a restart");
        }
        turned.context("the privacy switch cannot be turned")?;
        if was_on && !known.is_on() {
            tracing::info!("the privacy switch is off");
            let models = self.models.clone();
            // So that the first to ask does not wait for it.
            tokio::spawn(async move {
                if let Err(error) = models.engine(None).await {
                    tracing::error!("{}", error.message());
                }
            });
        }
        Ok(())
    }

    /// What the board measures, each figure by its name, as far as it goes: events, metrics.
    pub fn figures(board: &Board) -> Map<String, Value> {
        let figures = [
            ("temperature", board.temperature),
            ("power", board.power),
            ("fan", board.fan),
            ("fan_speed", board.fan_speed),
            ("joules_per_token", board.joules_per_token),
            ("watt_hours", board.watt_hours),
            ("watt_hours_total", board.watt_hours_total),
        ];
        let known = figures
            .into_iter()
            .filter_map(|(name, figure)| Some((name, figure?)));
        known
            .map(|(name, figure)| (name.to_owned(), number(figure)))
            .collect()
    }
}

/// How fast the engine may go; not at all at the last step.
fn pace(throttle: Throttle) -> Option<Pace> {
    match throttle.step() {
        0 => Some(Pace::Full),
        1 => Some(Pace::ThreeQuarters),
        2 => Some(Pace::Half),
        3 => Some(Pace::Quarter),
        _ => None,
    }
}

/// Whole numbers without a fraction.
fn number(figure: f64) -> Value {
    match figure.fract() == 0.0 && figure.abs() < 1e15 {
        true => Value::from(figure as i64),
        false => Value::from(figure),
    }
}
