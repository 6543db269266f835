//! A board in the terminal: every light, button, knob and failure, for the real laws and a running `serve`.
//!
//! In: keys. Out: a [`Board`] of simulated devices, and a picture of it. `physics` is what warms and cools it.
//! Must never be taken for a board: it says on top what it is.

mod physics;
mod terminal;

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use cloister_control::device::{FanDrive, Fault, PowerMeter, StatusLight, Tachometer, Thermometer};
use cloister_control::light::Rgb;
use cloister_control::thermal::Limits;
use cloister_control::units::{Celsius, Duty, Rpm, Watts};
use tokio::sync::watch;

use crate::board::{Board, Contact, Display, Late, Screen, Sensor};
use physics::Physics;
pub use terminal::Terminal;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failures {
    fan_blocked: bool,
    sensor_silent: bool,
    /// The temperature that the sensor stays at, in tenths of a degree.
    sensor_stuck: Option<i32>,
    switch_gone: bool,
    /// It shows [`LIE`] less than there is.
    sensor_lies: bool,
    fan_undriven: bool,
}

/// °C; less would be within what a die at rest may do.
const LIE: f32 = 45.0;

/// What the devices share.
struct State {
    physics: Physics,
    failures: Failures,
    light: Rgb,
    screen: Option<Screen>,
}

/// A simulated board.
pub struct Simulation {
    name: String,
    /// Where `serve` should be.
    socket: PathBuf,
    limits: Limits,
    state: Rc<RefCell<State>>,
    button: watch::Sender<bool>,
    switch: watch::Sender<bool>,
}

impl Simulation {
    /// With the name and the limits of a real one, beside the `serve` at this socket.
    pub fn of(name: &str, limits: Limits, socket: PathBuf) -> Self {
        let state = State {
            physics: Physics::default(),
            failures: Failures::default(),
            light: Rgb::BLACK,
            screen: None,
        };
        Self {
            name: name.to_owned(),
            socket,
            limits,
            state: Rc::new(RefCell::new(state)),
            button: watch::Sender::default(),
            switch: watch::Sender::default(),
        }
    }

    /// Its devices.
    pub fn board(&self) -> Board {
        let mut board = Board::bare(format!("{} (simulated)", self.name), self.limits);
        board.is_simulated = true;
        board.thermometers.push(Sensor {
            name: "die".to_owned(),
            limit: self.limits.limit,
            on_die: true,
            device: self.device(|device| device),
        });
        board.power = Some(self.device(|device| device));
        board.fan = Some(self.device(|device| device));
        board.tachometer = Some(self.device(|device| device));
        board.light = Some(self.device(|device| device));
        board.display = Some(self.device(|device| device));
        board.button = Some(contact(Switch(self.button.subscribe(), None)));
        let may_be_gone = Some(self.state.clone());
        board.privacy_switch = Some(contact(Switch(self.switch.subscribe(), may_be_gone)));
        board
    }

    fn device<D: ?Sized + 'static>(&self, as_what: fn(Box<Device>) -> Box<D>) -> Late<D> {
        let state = self.state.clone();
        Late::new(true, move || Ok(as_what(Box::new(Device(state.clone())))))
    }
}

fn contact(switch: Switch) -> Late<dyn Contact> {
    Late::new(true, move || {
        Ok(Box::new(switch.clone()) as Box<dyn Contact>)
    })
}

/// Any device of it.
struct Device(Rc<RefCell<State>>);

impl Thermometer for Device {
    fn read(&mut self) -> Result<Celsius, Fault> {
        let state = &mut *self.0.borrow_mut();
        state.physics.advance(state.failures.fan_blocked);
        match (state.failures.sensor_silent, state.failures.sensor_stuck) {
            (true, _) => Err(Fault::Bus),
            (false, Some(tenths)) => Ok(Celsius(tenths as f32 / 10.0)),
            (false, None) if state.failures.sensor_lies => Ok(state.physics.reads() - Celsius(LIE)),
            (false, None) => Ok(state.physics.reads()),
        }
    }
}

impl PowerMeter for Device {
    fn read(&mut self) -> Result<Watts, Fault> {
        Ok(self.0.borrow().physics.power())
    }
}

impl FanDrive for Device {
    fn set(&mut self, duty: Duty) -> Result<(), Fault> {
        let state = &mut *self.0.borrow_mut();
        if state.failures.fan_undriven {
            state.physics.duty = Duty::OFF;
            return Err(Fault::Denied);
        }
        state.physics.duty = duty;
        Ok(())
    }
}

impl Tachometer for Device {
    fn read(&mut self) -> Result<Rpm, Fault> {
        Ok(self.0.borrow().physics.plant.rpm())
    }
}

impl StatusLight for Device {
    fn set(&mut self, colour: Rgb) -> Result<(), Fault> {
        self.0.borrow_mut().light = colour;
        Ok(())
    }
}

impl Display for Device {
    fn size(&self) -> (usize, usize) {
        (21, 4)
    }

    fn show(&mut self, screen: Option<&Screen>) -> Result<(), Fault> {
        self.0.borrow_mut().screen = screen.cloned();
        Ok(())
    }
}

/// A button or a switch; with the state, one that can be gone.
#[derive(Clone)]
struct Switch(watch::Receiver<bool>, Option<Rc<RefCell<State>>>);

impl Contact for Switch {
    fn is_closed(&mut self) -> Result<bool, Fault> {
        let gone = self
            .1
            .as_ref()
            .is_some_and(|state| state.borrow().failures.switch_gone);
        match gone {
            true => Err(Fault::Absent),
            false => Ok(*self.0.borrow_and_update()),
        }
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            if self.0.changed().await.is_err() {
                std::future::pending().await
            }
        })
    }
}
