//! How Home Assistant finds the box: one retained message that describes a device and its entities.
//!
//! In: topics, the models that there are, and what the board measures. Out: the payload of `<prefix>/device/<node>/config`, as Home
//! Assistant's MQTT discovery has it: <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>.
//! Must never announce what the box does not have: a sensor without a sensor, an update that nobody looks for.

use serde_json::{Value, json};

use crate::choices::{self, DEFAULT, Setting};
use crate::topics::Topics;

/// The longest state that Home Assistant keeps, in characters, and so the longest text that it lets one type.
const MAX_STATE_CHARS: usize = 255;

/// A question in words, whatever it begins with, as an ask.
const ASK: &str = "{{ {'prompt': value} | to_json }}";

/// What the box's board has shown so far that it measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Whether each of [`SENSORS`] was there.
    sensors: [bool; SENSORS.len()],
    /// Whether there is a panel.
    panel: bool,
}

/// A figure of the board: its key in `state`, its name, Home Assistant's class for it, its unit.
type Sensor = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
);

/// What a board may measure.
const SENSORS: [Sensor; 6] = [
    ("temperature", "Temperature", Some("temperature"), "°C"),
    ("power", "Power", Some("power"), "W"),
    ("fan_speed", "Fan", None, "rpm"),
    ("joules_per_token", "Energy of a token", None, "J"),
    // Of the last day, so that it also falls: no meter as Home Assistant has them.
    ("watt_hours", "Energy of the last day", None, "Wh"),
    // A meter, for Home Assistant's own account of energy.
    ("watt_hours_total", "Energy", Some("energy"), "Wh"),
];

impl Measured {
    /// Looks what is in a state. An engine that is gone measures nothing, and has its sensors all the same.
    pub fn look(&mut self, state: Option<&Value>) {
        let Some(state) = state else { return };
        for (there, (key, ..)) in self.sensors.iter_mut().zip(SENSORS) {
            *there |= state[key].is_number();
        }
        self.panel |= state["panel"].is_object();
    }
}

/// The payload; `chosen` is the model that is set, which may have gone.
pub fn device(topics: &Topics, models: &[String], chosen: &str, measured: Measured) -> Value {
    let id = topics.object_id();
    let mut options: Vec<&str> = vec![DEFAULT];
    options.extend(models.iter().map(String::as_str));
    if !options.contains(&chosen) {
        options.push(chosen);
    }
    let last = topics.answer_last();
    let state = topics.state();
    let mut components = json!({
        "ask": {
            "platform": "notify",
            "name": "Ask",
            "icon": "mdi:message-question",
            "command_topic": topics.ask(),
            "command_template": ASK,
        },
        "prompt": {
            "platform": "text",
            "name": "Prompt",
            "icon": "mdi:message-question",
            "command_topic": topics.ask(),
            "command_template": ASK,
            "min": 1,
            "max": MAX_STATE_CHARS,
        },
        "answer": {
            "platform": "event",
            "name": "Answer",
            "icon": "mdi:message-reply-text",
            "state_topic": last,
            "event_types": ["answer", "error"],
            "value_template":
                "{{ dict(value_json, event_type='error' if 'error' in value_json else 'answer') | to_json }}",
        },
        "last_answer": {
            "platform": "sensor",
            "name": "Last answer",
            "icon": "mdi:message-reply-text",
            "state_topic": last,
            "value_template": format!(
                "{{{{ (value_json.error.message if 'error' in value_json else \
                 value_json.text | trim or value_json.finish_reason)[:{MAX_STATE_CHARS}] }}}}"
            ),
            "json_attributes_topic": last,
        },
        "speed": {
            "platform": "sensor",
            "name": "Speed",
            "icon": "mdi:speedometer",
            "state_topic": state,
            "value_template": "{{ (value_json.tokens_per_second | default({})).decode | default(None) }}",
            "unit_of_measurement": "tokens/s",
            "state_class": "measurement",
            "suggested_display_precision": 1,
        },
        "queue": {
            "platform": "sensor",
            "name": "Queue",
            "icon": "mdi:tray-full",
            "state_topic": state,
            "value_template":
                "{{ value_json.asks.waiting + (value_json.queue | default({})).waiting | default(0) }}",
            "state_class": "measurement",
        },
        "model": {
            "platform": "sensor",
            "name": "Loaded model",
            "icon": "mdi:brain",
            "entity_category": "diagnostic",
            "state_topic": state,
            "value_template": "{{ value_json.model }}",
        },
        "version": {
            "platform": "sensor",
            "name": "Version",
            "icon": "mdi:tag",
            "entity_category": "diagnostic",
            "state_topic": state,
            "value_template": "{{ value_json.version }}",
        },
        "default_model": {
            "platform": "select",
            "name": "Model",
            "icon": "mdi:brain",
            "entity_category": "config",
            "state_topic": topics.setting(Setting::Model),
            "command_topic": topics.set(Setting::Model),
            "options": options,
        },
        "default_think": {
            "platform": "select",
            "name": "Thinking",
            "icon": "mdi:thought-bubble",
            "entity_category": "config",
            "state_topic": topics.setting(Setting::Think),
            "command_topic": topics.set(Setting::Think),
            "options": choices::thinking(),
        },
        "stop": {
            "platform": "button",
            "name": "Stop",
            "icon": "mdi:stop-circle",
            "command_topic": topics.stop(),
        },
        "warm_up": {
            "platform": "button",
            "name": "Warm up",
            "icon": "mdi:fire",
            "command_topic": topics.warm_up(),
        },
    });
    for (there, of) in measured.sensors.iter().zip(SENSORS) {
        if *there {
            components[of.0] = sensor(of, &state);
        }
    }
    if measured.panel {
        components["light"] = json!({
            "platform": "sensor",
            "name": "Status light",
            "icon": "mdi:led-on",
            "entity_category": "diagnostic",
            "state_topic": state,
            "value_template": "{{ (value_json.panel | default({})).light | default(None) }}",
        });
        components["private"] = json!({
            "platform": "binary_sensor",
            "name": "Privacy switch",
            "icon": "mdi:eye-off",
            "state_topic": state,
            "value_template": "{{ {true: 'ON', false: 'OFF'}.get(value_json.private | default(none)) }}",
        });
    }
    for (name, component) in components.as_object_mut().expect("an object") {
        component["unique_id"] = format!("cloister_{id}_{name}").into();
        // What is asked or set is to arrive.
        component["qos"] = 1.into();
    }
    json!({
        "device": {
            "identifiers": [format!("cloister_{id}")],
            "name": format!("Cloister {}", topics.node()),
            "manufacturer": "Cloister",
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "origin": {"name": "cloister-bridge", "sw_version": env!("CARGO_PKG_VERSION")},
        "availability_topic": topics.status(),
        "components": components,
    })
}

/// A figure of the board.
fn sensor((key, name, class, unit): Sensor, topic: &str) -> Value {
    let mut sensor = json!({
        "platform": "sensor",
        "name": name,
        "entity_category": "diagnostic",
        "state_topic": topic,
        "value_template": format!("{{{{ value_json.{key} | default(None) }}}}"),
        "unit_of_measurement": unit,
        "state_class": match class {
            // It begins anew with the panel.
            Some("energy") => "total_increasing",
            _ => "measurement",
        },
    });
    if let Some(class) = class {
        sensor["device_class"] = class.into();
    }
    sensor
}
