//! Binds what a person sees and touches: light, button, privacy switch.
//!
//! In: the devices of a table. Out: drivers and findings of a [`Board`]. Must never have a contact wait for a bus.

use cloister_control::device::{Fault, StatusLight};

use super::aside::Aside;
use super::devices::{Light, Line};
use super::findings::NONE;
use super::{Board, Contact, Late, Machine};
use crate::drivers::advice;
use crate::drivers::gpio::{self, LineContact, LineLight};
use crate::drivers::led::Led;
use crate::drivers::ws2812::Ws2812;

const LIGHT: &str = "light";
const ON_A_BUS: &str = "its chip is on a bus, which may be stuck: use a line of the board's own";

/// Binds the status light.
pub fn light(machine: &Machine, light: &Light, wired: bool, board: &mut Board) {
    let place = match light {
        Light::Led { name } => format!("LED {name}"),
        Light::Gpio { chip, lines, .. } => format!("lines {lines:?} of {chip}"),
        Light::Ws2812 { device } => format!("WS2812 on {device}"),
    };
    board.folders.insert(match light {
        Light::Led { .. } => "/sys/devices",
        Light::Gpio { .. } | Light::Ws2812 { .. } => "/dev",
    });
    let why = match light {
        Light::Gpio { lines, .. } if ![1, 3].contains(&lines.len()) => {
            board.missing(LIGHT, &place, "one line, or red, green and blue");
            board.light = Some(Late::never(Fault::Nonsense));
            return;
        }
        Light::Gpio { chip, .. } => {
            format!("no GPIO chip has the label {chip}, or it has no such line")
        }
        Light::Led { .. } | Light::Ws2812 { .. } => NONE.to_owned(),
    };
    let (own_machine, own_light) = (machine.clone(), light.clone());
    let open = move || shines(&own_machine, &own_light);
    let found = open().map(|_| "shows the state".to_owned());
    board.looked(LIGHT, &place, found, &why);
    // Its lines may be those of an expander on a bus. That it is there says that it shines, until it has answered.
    let device = Aside::new(open, <dyn StatusLight>::set, Ok(()));
    let (machine, light) = (machine.clone(), light.clone());
    let there = move || is_there(&machine, &light);
    board.light = Some(device.late(wired, there, |light| Box::new(light)));
}

fn shines(machine: &Machine, light: &Light) -> Result<Box<dyn StatusLight>, Fault> {
    Ok(match light {
        Light::Led { name } => Box::new(Led::of(machine, name)?),
        Light::Gpio {
            chip,
            lines,
            active_low,
        } => {
            let chip = gpio::chip(machine, |label| chip.is(label))?;
            Box::new(LineLight::new(&chip, lines, *active_low)?)
        }
        Light::Ws2812 { device } => Box::new(Ws2812::open(machine, device)?),
    })
}

/// Whether the kernel knows of it, which no bus has a part in.
fn is_there(machine: &Machine, light: &Light) -> Result<(), Fault> {
    match light {
        Light::Led { name } => Led::of(machine, name).map(drop),
        Light::Gpio { chip, .. } => gpio::chip(machine, |label| chip.is(label)).map(drop),
        Light::Ws2812 { device } => match machine.path("/dev").join(device).exists() {
            true => Ok(()),
            false => Err(Fault::Absent),
        },
    }
}

/// Binds the button.
pub fn button(machine: &Machine, line: &Line, board: &mut Board) {
    board.button = Some(contact(
        machine,
        line,
        board,
        "button",
        |closed| match closed {
            true => "it is pressed now: one that stays so is stuck".into(),
            false => "short: stops the answer; long: shuts down".into(),
        },
    ));
}

/// Binds the privacy switch.
pub fn privacy_switch(machine: &Machine, line: &Line, board: &mut Board) {
    let switch = contact(machine, line, board, "privacy switch", |closed| {
        let state = if closed { "on" } else { "off" };
        format!("decides over every prompt; now {state}")
    });
    board.privacy_switch = Some(switch);
}

fn contact(
    machine: &Machine,
    line: &Line,
    board: &mut Board,
    what: &'static str,
    does: impl Fn(bool) -> String,
) -> Late<dyn Contact> {
    let place = format!("line {} of {}", line.line, line.chip);
    board.folders.insert("/dev");
    let (own_machine, own_line) = (machine.clone(), line.clone());
    let mut device = Late::new(true, move || {
        let chip = gpio::chip(&own_machine, |label| own_line.chip.is(label))?;
        // Whoever presses it is heard, whatever hangs.
        if gpio::is_on_a_bus(&own_machine, &chip) {
            return Err(Fault::Nonsense);
        }
        let contact = LineContact::new(&chip, own_line.line, own_line.to_ground)?;
        Ok(Box::new(contact) as Box<dyn Contact>)
    });
    let why = format!(
        "no GPIO chip has the label {}, or it has no such line",
        line.chip
    );
    match device.ask(|contact| contact.is_closed()) {
        Some(Ok(closed)) => board.found(what, &place, &does(closed)),
        Some(Err(Fault::Taken)) => {
            let chip = gpio::chip(machine, |label| line.chip.is(label)).ok();
            let user = chip.and_then(|chip| gpio::user(&chip, line.line));
            let user = user.filter(|user| !user.is_empty());
            board.missing(
                what,
                &place,
                &format!("{} uses it", user.as_deref().unwrap_or("somebody")),
            );
        }
        Some(Err(Fault::Absent)) | None => board.missing(what, &place, &why),
        Some(Err(Fault::Nonsense)) => board.missing(what, &place, ON_A_BUS),
        Some(Err(fault)) => board.missing(what, &place, advice(fault)),
    }
    device
}
