//! What stands on the broker for Home Assistant, and what is set over MQTT. Home Assistant itself reads it in
//! `home_assistant.rs`.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::{
    BOTH_VERSIONS, Bridge, Broker, Engine, Heard, Listener, eventually, smollm2, tiny_r1,
};

const CONFIG: &str = "homeassistant/device/n/config";

/// The models that the select of this payload offers.
fn models(heard: &Heard) -> Value {
    heard.json()["components"]["default_model"]["options"].clone()
}

/// What is retained on a topic.
fn retained(broker: &Broker, topic: &str) -> Option<String> {
    let heard = broker.listen(&[topic, "end"]);
    broker.publish("end", "1");
    let first = heard.next();
    (first.topic == topic).then_some(first.payload)
}

#[test]
fn the_box_is_announced_again_when_home_assistant_comes_and_withdrawn_on_demand() {
    for version in BOTH_VERSIONS {
        let folder = TempDir::new().unwrap();
        let _engine = Engine::start(folder.path());
        let broker = Broker::start();
        let mut bridge = Bridge::start_online(&broker, folder.path(), version);
        let heard = broker.listen(&[CONFIG]);
        eventually("the engine's model is offered", || {
            (models(&heard.next()) == json!(["default", "smollm2-135m-instruct-q4_1"]))
                .then_some(())
        });
        broker.publish("homeassistant/status", "offline");
        broker.publish("homeassistant/status", "online");
        let again = heard.next().json();
        assert_eq!(again["availability_topic"], "cloister/n/status");
        for (name, component) in again["components"].as_object().unwrap() {
            assert_eq!(component["unique_id"], format!("cloister_n_{name}"));
        }
        bridge.stop();
        assert!(retained(&broker, CONFIG).is_some());

        let url = format!("mqtt://127.0.0.1:{}", broker.port);
        let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
            command.arg("--no-discovery");
        });
        eventually("it is withdrawn", || {
            retained(&broker, CONFIG).is_none().then_some(())
        });
        bridge.stop();
    }
}

#[test]
fn what_is_set_is_asked_for_where_an_ask_does_not_say_and_outlives_a_restart() {
    let folder = TempDir::new().unwrap();
    let served = folder.path().join("models");
    std::fs::create_dir(&served).unwrap();
    tiny_r1(&served);
    std::os::unix::fs::symlink(smollm2(), served.join("smollm2.gguf")).unwrap();
    let _engine = Engine::start_with(&served, folder.path());
    let broker = Broker::start();
    let mut bridge = Bridge::start_online(&broker, folder.path(), "5");
    let config = broker.listen(&[CONFIG]);
    eventually("both models are offered", || {
        (models(&config.next()) == json!(["default", "smollm2", "tiny-r1"])).then_some(())
    });
    let heard = broker.listen(&["cloister/n/answer/+", "cloister/n/default/+"]);
    let stands = |heard: &Listener, topic: &str, value: &str| {
        let topic = format!("cloister/n/default/{topic}");
        while heard.next_on(&topic).payload != value {}
    };
    let asked = |heard: &Listener, ask: &str| {
        broker.publish("cloister/n/ask", ask);
        loop {
            let next = heard.next();
            if next.topic.starts_with("cloister/n/answer/")
                && next.topic != "cloister/n/answer/text"
            {
                break next.json();
            }
        }
    };
    stands(&heard, "model", "default");
    stands(&heard, "think", "default");

    let ignored = r#"{"id":"same","prompt":"Has a spider legs?","model":"tiny-r1","think":true}"#;
    broker.publish("cloister/n/default/model/set", "huge");
    broker.publish("cloister/n/default/think/set", "none");
    broker.publish_with("cloister/n/default/think/set", b"low", &["-r"]);
    let answer = asked(&heard, ignored);
    assert_eq!(
        (&answer["text"], &answer["reasoning"]),
        (&json!("Yes"), &json!("Hmm"))
    );

    broker.publish("cloister/n/default/model/set", "tiny-r1");
    stands(&heard, "model", "tiny-r1");
    assert_eq!(asked(&heard, "Has a spider legs?")["reasoning"], "Hmm");
    broker.publish("cloister/n/default/think/set", "off");
    stands(&heard, "think", "off");
    let answer = asked(&heard, "Has a spider legs?");
    assert_eq!(
        (&answer["text"], answer.get("reasoning")),
        (&json!("Yes"), None)
    );
    // An ask of before is the same ask, whatever is set meanwhile.
    assert_eq!(asked(&heard, ignored)["reasoning"], "Hmm");
    let log = bridge.log();
    assert!(
        log.contains("a setting is ignored: it is none of default, smollm2, tiny-r1"),
        "{log}"
    );
    assert!(
        log.contains("a setting is ignored: it is none of default, off"),
        "{log}"
    );

    bridge.process.kill();
    let _bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&["cloister/n/answer/+", "cloister/n/default/+"]);
    stands(&heard, "model", "tiny-r1");
    stands(&heard, "think", "off");
    let answer = asked(&heard, "Has a spider legs?");
    assert_eq!(
        (&answer["text"], answer.get("reasoning")),
        (&json!("Yes"), None)
    );
    let own = asked(
        &heard,
        r#"{"prompt":"Say hello.","model":"smollm2","max_tokens":3}"#,
    );
    assert_ne!(own["text"], "Yes");
}

#[test]
fn a_board_that_measures_itself_has_sensors_and_another_has_none() {
    const BOARD: [(&str, &str); 4] = [
        ("thermal/thermal_zone0/type", "cpu-thermal"),
        ("thermal/thermal_zone0/temp", "51234"),
        ("hwmon/hwmon0/name", "ina226"),
        ("hwmon/hwmon0/power1_input", "6100000"),
    ];
    let folder = TempDir::new().unwrap();
    let broker = Broker::start();
    let mut bridge = Bridge::start_online(&broker, folder.path(), "5");
    let heard = broker.listen(&[CONFIG, "cloister/n/state"]);
    let sensors = |heard: &Heard| {
        let components = &heard.json()["components"];
        ["temperature", "power"].map(|name| components[name]["unit_of_measurement"].clone())
    };
    let engine = Engine::start_on_board(&smollm2(), folder.path(), &[BOARD[2], BOARD[0]]);
    eventually("the model is offered", || {
        models(&heard.next_on(CONFIG))
            .get(1)
            .is_some()
            .then_some(())
    });
    drop(engine);
    // Neither a chip without its figure nor a zone without its temperature is a sensor.
    let announced = retained(&broker, CONFIG).unwrap();
    assert!(
        !announced.contains("°C") && !announced.contains("\"W\""),
        "{announced}"
    );

    let engine = Engine::start_on_board(&smollm2(), folder.path(), &BOARD);
    eventually("both are announced", || {
        (sensors(&heard.next_on(CONFIG)) == [json!("°C"), json!("W")]).then_some(())
    });
    let states = broker.listen(&["cloister/n/state"]);
    eventually("both are shown", || {
        let state = states.next().json();
        ((&state["temperature"], &state["power"]) == (&json!(51), &json!(6.1))).then_some(())
    });
    // A panel measures what energy is for.
    let board = json!({
        "temperature": 48.0, "power": 5.5, "joules_per_token": 0.31, "watt_hours": 61.2,
        "watt_hours_total": 1204
    });
    engine.told_by_panel(&json!({"private": false, "board": board}));
    eventually("energy is announced", || {
        let components = &heard.next_on(CONFIG).json()["components"];
        let units = ["joules_per_token", "watt_hours"]
            .map(|name| components[name]["unit_of_measurement"].clone());
        let meter = &components["watt_hours_total"];
        let is_meter =
            meter["device_class"] == "energy" && meter["state_class"] == "total_increasing";
        (is_meter && units == [json!("J"), json!("Wh")]).then_some(())
    });
    eventually("energy is shown", || {
        let state = states.next().json();
        let figures = [
            "power",
            "joules_per_token",
            "watt_hours",
            "watt_hours_total",
        ]
        .map(|name| state[name].clone());
        (figures == [json!(5.5), json!(0.31), json!(61.2), json!(1204)]).then_some(())
    });
    // A switch of which nobody says where it stands is not said to be off.
    let private = |is: Value| {
        eventually("it is shown", || {
            (states.next().json()["private"] == is).then_some(())
        });
    };
    private(json!(false));
    engine.told_by_panel(&json!({"private": false, "board": board, "leaves": true}));
    private(Value::Null);
    // Without an engine nothing is measured, and no old figure stands.
    drop(engine);
    eventually("they are shown no longer", || {
        states
            .next()
            .json()
            .get("temperature")
            .is_none()
            .then_some(())
    });
    bridge.stop();
}
