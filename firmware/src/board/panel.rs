//! Binds what a person sees and touches: light, button, privacy switch.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`].

use std::fs::File;
use std::pin::Pin;

use cloister_control::device::{Fault, StatusLight};
use cloister_control::light::Rgb;

use super::devices::{Light, Line, Name};
use super::{Board, Contact, Machine};
use crate::drivers::gpio::{self, LineContact, LineLight};
use crate::drivers::led::Led;
use crate::drivers::ws2812::Ws2812;

const LIGHT: &str = "light";
const SHOWS: &str = "shows the state";

/// Binds the status light.
pub fn light(machine: &Machine, light: &Light, board: &mut Board) {
    let place = match light {
        Light::Led { name } => format!("LED {name}"),
        Light::Gpio { chip, lines, .. } => format!("lines {lines:?} of {chip}"),
        Light::Ws2812 { device } => format!("WS2812 on {device}"),
    };
    let opened: Result<Box<dyn StatusLight>, Fault> = match light {
        Light::Led { name } => Led::of(machine, name).map(|led| {
            board.writes.push(led.at().to_owned());
            Box::new(led) as _
        }),
        Light::Gpio { lines, .. } if ![1, 3].contains(&lines.len()) => {
            return board.missing(LIGHT, &place, "one line, or red, green and blue");
        }
        Light::Gpio {
            chip,
            lines,
            active_low,
        } => match gpio::chip(machine, |label| chip.is(label)) {
            Ok(chip) => {
                let mut light = LineLight::new(chip, lines, *active_low);
                // Nobody else has these lines then. Of other lights a running panel would go dark by it.
                let has = light.set(Rgb::BLACK);
                board.light = Some(Box::new(light));
                return board.tried(LIGHT, &place, has.map(|()| SHOWS.into()));
            }
            Err(fault) => return no_chip(board, LIGHT, &place, chip, fault),
        },
        Light::Ws2812 { device } => Ws2812::open(machine, device).map(|led| Box::new(led) as _),
    };
    let found = opened.map(|light| {
        board.light = Some(light);
        SHOWS.into()
    });
    board.tried(LIGHT, &place, found);
}

/// Binds the button.
pub fn button(machine: &Machine, line: &Line, board: &mut Board) {
    board.button = contact(machine, line, board, "button", |closed| match closed {
        true => "it is pressed now: one that stays so is stuck".into(),
        false => "short: stops the answer; long: shuts down".into(),
    });
}

/// Binds the privacy switch.
pub fn privacy_switch(machine: &Machine, line: &Line, board: &mut Board) {
    board.privacy_switch = contact(machine, line, board, "privacy switch", |closed| {
        let state = if closed { "on" } else { "off" };
        format!("decides over every prompt; now {state}")
    });
}

fn contact(
    machine: &Machine,
    line: &Line,
    board: &mut Board,
    what: &'static str,
    does: impl Fn(bool) -> String,
) -> Option<Box<dyn Contact>> {
    let place = format!("line {} of {}", line.line, line.chip);
    let chip = match gpio::chip(machine, |label| line.chip.is(label)) {
        Ok(chip) => chip,
        Err(fault) => {
            no_chip(board, what, &place, &line.chip, fault);
            return Some(Box::new(Unreachable(fault)));
        }
    };
    let user = user_of(&chip, line.line);
    let mut contact = LineContact::new(chip, line.line, line.to_ground);
    match (contact.is_closed(), user) {
        (Err(Fault::Taken), Some(user)) => {
            board.missing(what, &place, &format!("{user} uses it"));
        }
        (closed, _) => board.tried(what, &place, closed.map(does)),
    }
    Some(Box::new(contact))
}

/// A contact that was wired and cannot be reached until the panel is started again: a privacy switch of which nobody
/// knows that it is off is on.
struct Unreachable(Fault);

impl Contact for Unreachable {
    fn is_closed(&mut self) -> Result<bool, Fault> {
        Err(self.0)
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::pending())
    }
}

fn user_of(chip: &File, line: u32) -> Option<String> {
    gpio::user(chip, line).filter(|user| !user.is_empty())
}

fn no_chip(board: &mut Board, what: &'static str, place: &str, label: &Name, fault: Fault) {
    let why = match fault {
        Fault::Absent => format!("no GPIO chip has the label {label}"),
        Fault::Denied => {
            "no permission for /dev/gpiochip*: the panel's user must be in its group".into()
        }
        Fault::Nonsense => format!("several GPIO chips have the label {label}"),
        other => other.name().into(),
    };
    board.missing(what, place, &why);
}
