//! The bridge among real parts: a Mosquitto of its own, `cloister serve` with a small real model,
//! `mosquitto_pub`, `mosquitto_sub` and paho-mqtt. Every test has its own of each.
//!
//! Needs the Debian packages `mosquitto` and `mosquitto-clients`; those with an engine need
//! `cloister` built in the same target folder and the model that `tests/fetch` brings; those in
//! `paho` a Python with paho-mqtt. `tests/run` sees to all of that.

mod parts;

mod answered_once;
mod bad_input;
mod connection;
mod discovery;
mod disk;
mod encrypted;
mod hostile_broker;
mod house;
mod kills;
mod paho;
mod pool;
mod reasons;
mod recipes;
mod shape_and_thought;
mod survive;
mod waiting;
mod with_engine;
