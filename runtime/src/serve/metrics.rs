//! `/metrics`: what the engine does, in Prometheus's text format. Numbers only, never text of users.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::panel::Panel;

/// `GET /metrics`.
pub async fn metrics(State(panel): State<Arc<Panel>>) -> impl IntoResponse {
    let stats = panel.models().stats();
    let loaded = panel.models().current();
    let slots = loaded.map_or(0, |engine| engine.info().n_slots);
    let rows: [(&str, &str, &str, f64); 10] = [
        (
            "requests_finished_total",
            "counter",
            "Requests answered.",
            stats.finished as f64,
        ),
        (
            "requests_cancelled_total",
            "counter",
            "Requests whose client went away.",
            stats.cancelled as f64,
        ),
        (
            "prompt_tokens_total",
            "counter",
            "Prompt tokens computed.",
            stats.prompt_tokens as f64,
        ),
        (
            "generated_tokens_total",
            "counter",
            "Tokens generated.",
            stats.generated_tokens as f64,
        ),
        (
            "batches_total",
            "counter",
            "Batches computed.",
            stats.batches as f64,
        ),
        (
            "slots",
            "gauge",
            "Requests that can be answered at the same time.",
            f64::from(slots),
        ),
        (
            "slots_busy",
            "gauge",
            "Requests being answered.",
            stats.busy as f64,
        ),
        (
            "queue_waiting",
            "gauge",
            "Requests waiting for a slot.",
            stats.waiting as f64,
        ),
        (
            "prefill_tokens_per_second",
            "gauge",
            "Speed of the last prefill.",
            stats.prefill_per_second,
        ),
        (
            "decode_tokens_per_second",
            "gauge",
            "Speed of decoding, all slots together.",
            stats.decode_per_second,
        ),
    ];
    let board = panel.board().unwrap_or_default();
    let measured = [
        (
            "temperature_celsius",
            "Temperature of the sensor that is nearest to its limit.",
            board.temperature,
        ),
        ("power_watts", "Power of the whole board.", board.power),
        (
            "fan_duty_percent",
            "How strongly the fan is driven.",
            board.fan,
        ),
        ("fan_speed_rpm", "How fast the fan turns.", board.fan_speed),
        (
            "joules_per_token",
            "What a generated token took lately.",
            board.joules_per_token,
        ),
        (
            "watt_hours_last_day",
            "What the box took within the last day.",
            board.watt_hours,
        ),
        (
            "private",
            "Whether the privacy switch is on; not there while nobody says where it stands.",
            panel.models().private().map(|on| f64::from(u8::from(on))),
        ),
        (
            "throttle_step",
            "How far the engine is slowed because of heat: 0 to 4, where nobody is answered.",
            Some(f64::from(panel.throttle())),
        ),
    ];
    let meter = (
        "watt_hours_total",
        "counter",
        "What the box took since the panel's start.",
    );
    let meter = board
        .watt_hours_total
        .map(|value| (meter.0, meter.1, meter.2, value));
    let measured = measured
        .into_iter()
        .filter_map(|(name, help, value)| Some((name, "gauge", help, value?)))
        .chain(meter);
    let mut text = String::new();
    for (name, kind, help, value) in rows.into_iter().chain(measured) {
        write!(
            text,
            "# HELP cloister_{name} {help}\n# TYPE cloister_{name} {kind}\ncloister_{name} {value}\n"
        )
        .expect("a String takes all");
    }
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
}
