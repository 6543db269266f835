//! The bridge among real parts: a Mosquitto of its own, `cloister serve` with a small real model,
//! `mosquitto_pub`, `mosquitto_sub` and paho-mqtt. Every test has its own of each.
//!
//! Needs the Debian packages `mosquitto` and `mosquitto-clients`; the tests in `with_engine` need
//! `cloister` built in the same target folder and the model that `tests/fetch` brings; those in
//! `paho` a Python with paho-mqtt. `tests/run` sees to all of that.

mod parts;

mod bad_input;
mod connection;
mod discovery;
mod encrypted;
mod hostile_broker;
mod house;
mod kills;
mod paho;
mod recipes;
mod shape_and_thought;
mod survive;
mod with_engine;
