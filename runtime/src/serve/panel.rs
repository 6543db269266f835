//! `/api/panel`: what the box's own panel wants, which goes before what anybody asks by another API.
//!
//! In: reports of `cloister-panel`, over the Unix socket alone. Out: an engine that is closed, slowed or free, and the
//! board's figures for who wants them. Must never take a wish from the network or from who asks for others; must never
//! open what the privacy switch has closed, not even by a restart.

mod switch;
mod told;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Json;
use cloister_engine::{Closed, Pace, Restraint};
use cloister_program::panel::{Board, PanelReport, Throttle};
use serde_json::{Map, Value, json};

use self::switch::{Stands, Switch};
use self::told::{Said, Told};
use super::api_error::ApiError;
use super::ask::body;
use super::fields::parsed;
use super::models::Models;
use super::peer::{Peer, Users};
use super::privacy::Ledger;
use crate::access::{Access, Scope};

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

/// How one gets in from outside, for who stands before the box.
pub struct Door {
    /// The page's address.
    pub url: String,
    /// Of the certificate there; none without encryption.
    pub fingerprint: Option<String>,
    /// Where pairing codes are made.
    pub access: Access,
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
            }),
        };
        panel.hold(&panel.known());
        panel
    }

    /// The models that are held back.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Why nobody is answered, if so.
    pub fn closed(&self) -> Option<Closed> {
        self.restraint.closed()
    }

    /// How far the engine is slowed: 0 to 4.
    pub fn throttle(&self) -> u8 {
        match (self.closed(), self.restraint.pace()) {
            (Some(Closed::TooHot), _) => Throttle::STOP.step(),
            (_, pace) => pace as u8,
        }
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
                self.restraint.set_pace(pace(throttle));
                self.hold(&known);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while held")
    }

    /// Has nobody answered unless the switch is known to be off.
    fn hold(&self, known: &Known) {
        let (on, heard) = (known.is_on(), known.switch.is_heard());
        self.models.set_private(on || !heard, !on && !heard);
    }

    fn check(&self, peer: &Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.users.speak(peer, headers) {
            true => Ok(()),
            false => Err(ApiError::forbidden(
                "only the box's own panel may say this, over the Unix socket",
            )),
        }
    }

    /// Does as the switches say; without a word of the box's own it stands where it was, and nobody knows whether it does.
    fn turn(self: &Arc<Self>, known: &mut Known, said: Said) -> anyhow::Result<()> {
        let was_on = known.is_on();
        let turned_on = (said.private == Some(true) || said.simulated) && !was_on;
        if turned_on {
            // First of all, whatever else then fails.
            self.models.set_private(true, false);
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

/// `PUT /api/panel`: what is to hold from now on, and how the board is. Answers what holds.
pub async fn tell(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    let report: PanelReport = parsed(&body(&headers, bytes)?, "this is no report of a panel")?;
    let turned = {
        let mut known = panel.known();
        let said = known.told.take(Instant::now(), report);
        let turned = panel.turn(&mut known, said);
        panel.restraint.set_pace(pace(said.throttle));
        turned
    };
    if let Err(error) = turned {
        tracing::error!("{error:#}");
        return Err(ApiError::failed(&format!("{error:#}")));
    }
    Ok(Json(json!({
        "private": panel.models.are_private(),
        "throttle": panel.throttle(),
    })))
}

/// `GET /api/panel/door`: the page's address, and the fingerprint of the certificate there.
pub async fn door(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    let Door {
        url, fingerprint, ..
    } = &panel.door;
    Ok(Json(json!({"url": url, "fingerprint": fingerprint})))
}

/// `POST /api/panel/pair`: a new pairing code, for the display of the box.
pub async fn pair(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    let code = panel.door.access.new_code(Scope::Ask).map_err(|error| {
        tracing::error!("nobody can be paired: {error:#}");
        ApiError::failed("the box cannot write down who is let in; see its log")
    })?;
    tracing::info!("the box shows a pairing code: its button was pressed");
    Ok(Json(json!({"code": code})))
}

/// `POST /api/panel/test`: whether the loaded model computes, tried out, past the queue and the privacy switch.
pub async fn test(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    Ok(Json(json!({"computes": panel.models.computes().await})))
}

/// `POST /api/panel/stop`: ends every answer that runs or waits.
pub async fn stop(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    panel.restraint.stop_all();
    tracing::info!("all answers are stopped, by the button of the box");
    Ok(Json(json!({"stopped": true})))
}
