//! `/api/events`: the state of the box as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use cloister_engine::Phase;
use futures_core::Stream;
use serde_json::{Value, json};

use super::models::Condition;
use super::notices::Notices;
use super::panel::Panel;
use super::sensors::Sensors;

/// Least time between two events, so that a busy box does not talk only about itself.
const AT_MOST_EVERY: Duration = Duration::from_millis(250);
/// Most time until a change of the loaded model is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// `GET /api/events`: an event `state` now and after each change.
pub async fn events(
    State((panel, notices)): State<(Arc<Panel>, Arc<Notices>)>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = async_stream::stream! {
        let mut told = Value::Null;
        let mut sensors = Sensors::of_this_machine();
        loop {
            let engine = panel.models().current();
            let mut stats = engine.as_ref().map(|engine| engine.stats());
            if let Some(stats) = &mut stats {
                stats.mark_unchanged();
            }
            let now = panel.models().stats();
            let mut state = json!({
                "model": engine.as_ref().map(|engine| engine.info().id.clone()),
                "slots": {
                    "total": engine.as_ref().map_or(0, |engine| engine.info().n_slots),
                    "busy": now.busy,
                },
                "queue": {"waiting": now.waiting},
                "tokens_per_second": {"prefill": now.prefill_per_second, "decode": now.decode_per_second},
                "status": condition(panel.models().condition()),
                "phase": phase(now.phase),
                "tokens": {"prompt": now.prompt_tokens, "generated": now.generated_tokens},
                "private": panel.models().private(),
                "throttle": panel.throttle(),
                "notices": notices.lines(),
            });
            // Holding the engine would keep its model loaded.
            drop(engine);
            // One place measures: the panel, or where there is none, this process.
            let figures = match panel.board() {
                Some(board) => {
                    let figures = Panel::figures(&board);
                    state["panel"] = json!({"light": board.light, "problems": board.problems});
                    figures
                }
                None => {
                    sensors = sensors.current().await;
                    sensors.figures().clone()
                }
            };
            for (name, figure) in figures {
                state[name] = figure;
            }
            if state != told {
                yield Ok(Event::default().event("state").data(state.to_string()));
                told = state;
            }
            tokio::time::sleep(AT_MOST_EVERY).await;
            match &mut stats {
                // An error means that the engine has gone; the next round sees which one came.
                Some(stats) => { let _ = tokio::time::timeout(LOOK_AGAIN, stats.changed()).await; }
                None => tokio::time::sleep(AT_MOST_EVERY).await,
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::default())
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Well => "ok",
        Condition::Loading => "loading",
        Condition::Failed | Condition::Empty => "failed",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "idle",
        Phase::Reading => "reading",
        Phase::Thinking => "thinking",
        Phase::Answering => "answering",
    }
}
