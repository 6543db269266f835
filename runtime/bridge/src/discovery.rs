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
    temperature: bool,
    power: bool,
}

impl Measured {
    /// Looks what is in a state. An engine that is gone measures nothing, and has its sensors all the same.
    pub fn look(&mut self, state: Option<&Value>) {
        let is_there = |name: &str| state.is_some_and(|state| state[name].is_number());
        self.temperature |= is_there("temperature");
        self.power |= is_there("power");
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
    if measured.temperature {
        components["temperature"] = sensor("Temperature", "temperature", "°C", &state);
    }
    if measured.power {
        components["power"] = sensor("Power", "power", "W", &state);
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

/// A figure of the board, by its name in `state`, which is Home Assistant's name for its kind too.
fn sensor(name: &str, class: &str, unit: &str, topic: &str) -> Value {
    json!({
        "platform": "sensor",
        "name": name,
        "device_class": class,
        "entity_category": "diagnostic",
        "state_topic": topic,
        "value_template": format!("{{{{ value_json.{class} | default(None) }}}}"),
        "unit_of_measurement": unit,
        "state_class": "measurement",
    })
}
